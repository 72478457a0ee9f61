import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { entriesOf, merged, valueIn } from './block.ts'
import { CompactStore } from './compact-store.ts'
import { FieldNames } from './field-names.ts'
import { memoryStore } from './memory-store.ts'
import type { Store } from './store.ts'

/** The longest block, in characters. */
const blockLengthMax = 64 * 1024

const unreadable = (why: string) => new Error(why)
const rows = 't:rows'
const compact = (store: Store) => new CompactStore(store, [rows], unreadable)

test('names: every row comes back, by those that know as many names and by those that load them', () => {
  const names = new FieldNames(undefined)
  const row = fc.jsonValue({ maxDepth: 3 })
  const named = fc.dictionary(fc.string({ maxLength: 70 }), row, { maxKeys: 8 })
  fc.assert(
    fc.property(fc.array(fc.oneof(row, named), { minLength: 1, maxLength: 6 }), (values) => {
      for (const value of values) {
        const text = JSON.stringify(value)
        const short = names.shorten(text)
        assert.ok(short.length <= text.length)
        assert.equal(names.expand(short), text)
        assert.equal(new FieldNames(names.text).expand(short), text)
      }
    }),
    { numRuns: 2_000 },
  )
  assert.ok(names.count > 31, `${names.count} names: none with a long code`)
  assert.ok(names.count <= 125, `${names.count} names have a bound`)
})

test('names: the rows of a table have none', () => {
  const names = new FieldNames(undefined)
  const row = JSON.stringify({ stockCode: '85123A', units: 6, price: 2_550, of: { units: 1 } })
  assert.equal(names.shorten(row), '\x01"85123A"\x026\x032550\x04\x051}}')
  // Inside of text they stay.
  const text = JSON.stringify({ stockCode: '{"units":1,"price":2}' })
  assert.equal(names.expand(names.shorten(text)), text)
})

test('compact store: another one on the same data learns the names that were written since', async () => {
  const store = memoryStore()
  const [writer, reader] = [compact(store), compact(store)]
  await writer.write([[rows, [['a', '{"n":1}']]]])
  assert.notEqual(store.get(rows, 'a'), '{"n":1}')
  assert.equal(reader.get(rows, 'a'), '{"n":1}')
  const view = reader.view()
  await writer.write([[rows, [['a', '{"n":1,"m":2}']]]])
  assert.equal(view.get(rows, 'a'), '{"n":1}')
  assert.deepEqual([...reader.range(rows)], [['a', '{"n":1,"m":2}']])
  assert.equal(compact(store).get(rows, 'a'), '{"n":1,"m":2}')
})

test('compact store: names of a write that failed are stored with the next one', async () => {
  const inner = memoryStore()
  let isFull = true
  const store = compact({
    get: (collection, key) => inner.get(collection, key),
    range: (collection, range) => inner.range(collection, range),
    view: () => inner.view(),
    close: () => inner.close(),
    write: async (changes) => {
      const all = Array.from(changes, ([name, entries]) => [name, [...entries]] as const)
      if (isFull) throw new Error('full')
      await inner.write(all)
    },
  })
  await assert.rejects(store.write([[rows, [['a', '{"n":1}']]]]), /full/)
  isFull = false
  await store.write([[rows, [['b', '{"n":2}']]]])
  assert.equal(compact(inner).get(rows, 'b'), '{"n":2}')
  await inner.write([['#names', [[rows, undefined]]]])
  assert.throws(() => compact(inner).get(rows, 'b'), /fields without names/)
})

test('runs: a packed collection reads as its last changes say, whatever was merged', async () => {
  const inner = memoryStore()
  const store = new CompactStore(inner, [rows], unreadable, new Set([rows]))
  const model = new Map<string, string>()
  const key = fc.integer({ min: 0, max: 60 }).map((n) => `k${String(n).padStart(3, '0')}`)
  const change = fc.tuple(
    key,
    fc.option(
      fc.nat().map((n) => `{"n":${n}}`),
      { nil: undefined },
    ),
  )
  const writes = fc.sample(fc.array(change, { minLength: 1, maxLength: 12 }), { numRuns: 60, seed: 7 })
  let merges = 0
  for (const [i, changes] of writes.entries()) {
    const view = store.view()
    const before = [...model].sort()
    await store.write([[rows, changes]])
    for (const [name, value] of changes) {
      if (value === undefined) model.delete(name)
      else model.set(name, value)
    }
    if (inner.get('#runs', rows) === undefined) merges++
    const all = [...model].sort()
    const [from, to] = [`k0${i % 60}`, `k0${(i % 60) + 5}`]
    assert.deepEqual([...view.range(rows)], before)
    assert.deepEqual([...store.range(rows)], all)
    assert.deepEqual([...store.range(rows, { reverse: true })], all.toReversed())
    const within = all.filter(([name]) => name >= from && name < to)
    assert.deepEqual([...store.range(rows, { from, to })], within)
    assert.deepEqual([...store.range(rows, { from, to, reverse: true })], within.toReversed())
    for (let n = 0; n <= 60; n++) {
      const name = `k${String(n).padStart(3, '0')}`
      assert.equal(store.get(rows, name), model.get(name))
    }
    view.close()
  }
  assert.equal(merges, 6)
  assert.equal([...inner.range('#runs')].length > 1, true)
})

test('runs: they are merged piece by piece, also into one block', async () => {
  const inner = memoryStore()
  let [read, written, held] = [0, 0, 0]
  const counted: Store = {
    get: (collection, key) => inner.get(collection, key),
    range: (collection, range) => inner.range(collection, range),
    view() {
      const view = inner.view()
      return {
        get: (collection, key) => view.get(collection, key),
        *range(collection, range) {
          for (const entry of view.range(collection, range)) {
            read += entry[1].length
            yield entry
          }
        },
        close: () => view.close(),
      }
    },
    close: () => inner.close(),
    async write(changes) {
      const all = Array.from(changes, ([name, entries]) => {
        const taken = Array.from(entries, (entry) => {
          if (name === rows) held = Math.max(held, read - written)
          written += entry[1]?.length ?? 0
          return entry
        })
        return [name, taken] as const
      })
      await inner.write(all)
    },
  }
  const store = new CompactStore(counted, [rows], unreadable, new Set([rows]))
  const model = new Map<string, string>()
  const write = async (name: (n: number) => string, value: string) => {
    // So many runs stay; the next changes are merged with them.
    for (let run = 0; run < 9; run++) {
      ;[read, written, held] = [0, 0, 0]
      const some = Array.from({ length: 4_000 }, (_, i) => [name(9 * i + run), value] as const)
      for (const [key, text] of some) model.set(key, text)
      await store.write([[rows, some]])
    }
    assert.equal(inner.get('#runs', rows), undefined)
    assert.ok(read > 4_000_000, `${read} characters were merged`)
    assert.ok(held < 3_000_000, `${held} characters were in memory together`)
  }
  const digits = (n: number) => String(n).padStart(6, '0')
  await write((n) => `k${digits(n)}`, `"${'v'.repeat(200)}"`)
  // Between the keys of one block, and before all.
  await write((n) => `k000100-${digits(n)}`, `"${'w'.repeat(200)}"`)
  await write((n) => `a${digits(n)}`, `"${'x'.repeat(200)}"`)
  await store.write([[rows, [['k000100', undefined]]]])
  model.delete('k000100')
  assert.deepEqual([...store.range(rows)], [...model].sort())
  for (const [, block] of inner.range(rows)) assert.ok(block.length <= blockLengthMax)
})

test('blocks: entries that follow on all others fill them; a split in the middle leaves room', () => {
  const value = 'v'.repeat(500)
  const some = (from: number, to: number, step: number) =>
    Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => {
      return [String(from + i * step).padStart(6, '0'), value] as const
    })
  let blocks = merged('', some(0, 1_000, 2))
  for (const [, block] of blocks) assert.ok(block.length <= blockLengthMax)
  for (const [, block] of blocks.slice(0, -1)) assert.ok(block.length > blockLengthMax - 600)
  blocks = merged(blocks[0]![1], some(1, 21, 2))
  assert.equal(blocks.length, 2)
  for (const [first, block] of blocks) {
    assert.ok(block.length < 0.8 * blockLengthMax, `${block.length}`)
    assert.equal([...entriesOf(block)][0]![0], first)
    for (const [key, text] of entriesOf(block)) assert.equal(valueIn(block, key), text)
  }
  const emptied = [...entriesOf(blocks[0]![1])].map(([key]) => [key, undefined] as const)
  assert.deepEqual(merged(blocks[0]![1], emptied), [])
})

test('blocks: lengths of every size', () => {
  const entries = [1, 16_383, 16_384, 70_000, 1_000_000].map((n) => [`k${n}`, 'é'.repeat(n)] as const)
  const sorted = [...entries].sort(([a], [b]) => (a < b ? -1 : 1))
  assert.deepEqual(
    merged('', sorted).flatMap(([, block]) => [...entriesOf(block)]),
    sorted,
  )
})
