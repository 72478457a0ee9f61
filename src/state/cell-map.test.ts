import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CellMap, hashOf } from './cell-map.ts'

interface Cell {
  readonly key: string
  readonly hash: number
}

const cellOf = (key: string): Cell => ({ key, hash: hashOf(key) })

test('a cell map holds the same cells as a Map, in the same order, after any adds and removes', () => {
  const key = fc.oneof(fc.string({ maxLength: 2 }), fc.integer({ min: 0, max: 400 }).map(String))
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), key), { maxLength: 3_000, size: 'max' }), (steps) => {
      const cells = new CellMap<Cell>()
      const model = new Map<string, Cell>()
      for (const [adds, key] of steps) {
        const cell = model.get(key)
        assert.equal(cells.get(key, hashOf(key)), cell)
        if (adds && cell === undefined) {
          const added = cellOf(key)
          cells.add(added)
          model.set(key, added)
        } else if (!adds && cell !== undefined) {
          cells.remove(cell)
          model.delete(key)
        }
        assert.equal(cells.size, model.size)
      }
      assert.deepEqual(cells.all(), [...model.values()])
      for (const [key, cell] of model) assert.equal(cells.get(key, hashOf(key)), cell)
    }),
    { numRuns: 50 },
  )
})

test('a cell map does not slow down as cells come and go', () => {
  const cells = new CellMap<Cell>()
  const kept = Array.from({ length: 100 }, (_, i) => cellOf(`kept ${i}`))
  for (const cell of kept) cells.add(cell)
  for (let i = 0; i < 100_000; i++) {
    const cell = cellOf(`passing ${i}`)
    cells.add(cell)
    cells.remove(cell)
  }
  assert.deepEqual(cells.all(), kept)
  assert.equal(cells.get('passing 99999', hashOf('passing 99999')), undefined)
})
