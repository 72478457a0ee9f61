import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CellMap } from './cell-map.ts'

test('a cell map holds the same cells as a Map, in the same order, after any adds and removes', () => {
  const key = fc.oneof(fc.string({ maxLength: 2 }), fc.integer({ min: 0, max: 400 }).map(String))
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), key), { maxLength: 3_000, size: 'max' }), (steps) => {
      const cells = new CellMap<{ readonly key: string }>()
      const model = new Map<string, { readonly key: string }>()
      for (const [adds, key] of steps) {
        const cell = model.get(key)
        assert.equal(cells.get(key), cell)
        if (adds && cell === undefined) {
          const added = { key }
          cells.add(added)
          model.set(key, added)
        } else if (!adds && cell !== undefined) {
          cells.remove(cell)
          model.delete(key)
        }
        assert.equal(cells.size, model.size)
      }
      assert.deepEqual(cells.all(), [...model.values()])
      for (const [key, cell] of model) assert.equal(cells.get(key), cell)
    }),
    { numRuns: 50 },
  )
})

test('a cell map does not slow down as cells come and go', () => {
  const cells = new CellMap<{ readonly key: string }>()
  const kept = Array.from({ length: 100 }, (_, i) => ({ key: `kept ${i}` }))
  for (const cell of kept) cells.add(cell)
  for (let i = 0; i < 100_000; i++) {
    const cell = { key: `passing ${i}` }
    cells.add(cell)
    cells.remove(cell)
  }
  assert.deepEqual(cells.all(), kept)
  assert.equal(cells.get('passing 99999'), undefined)
})
