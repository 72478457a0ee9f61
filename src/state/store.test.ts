import assert from 'node:assert/strict'
import { mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { HenceError } from '../failure.ts'
import { keyBytesMax } from './keys.ts'
import { openLmdbStore } from './lmdb-store.ts'
import { memoryStore } from './memory-store.ts'
import type { KeyRange, Store } from './store.ts'

// Tests both stores against the contract in `store.ts`.

const collections = ['one', 'two']
const key = fc.string({
  unit: fc.constantFrom('\0', '\x05', 'a', 'b', '\x80', '\xff'),
  minLength: 1,
  maxLength: 3,
})
const change = fc.record({
  collection: fc.constantFrom(...collections),
  key,
  value: fc.option(fc.string({ unit: 'grapheme', maxLength: 5 }), { nil: undefined }),
})
const range: fc.Arbitrary<KeyRange> = fc.record(
  { from: key, to: key, reverse: fc.boolean() },
  { requiredKeys: [] },
)

async function directoryFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'hence-state-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

const stores: Record<string, (t: TestContext) => Promise<Store>> = {
  memory: async () => memoryStore(),
  lmdb: async (t) => openLmdbStore({ directory: await directoryFor(t), collections }),
}

function inRange(content: ReadonlyMap<string, string>, { from, to, reverse }: KeyRange): [string, string][] {
  const entries = [...content]
    .filter(([key]) => (from === undefined || key >= from) && (to === undefined || key < to))
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return reverse ? entries.reverse() : entries
}

for (const [name, make] of Object.entries(stores)) {
  test(`${name}: a store holds what was written, in order`, async (t) => {
    const store = await make(t)
    t.after(() => store.close())
    const content = new Map(collections.map((collection) => [collection, new Map<string, string>()]))
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { maxLength: 20 }),
        fc.array(range, { minLength: 5, maxLength: 5 }),
        async (changes, ranges) => {
          await store.write(changes.map(({ collection, key, value }) => [collection, [[key, value]]]))
          for (const { collection, key, value } of changes) {
            if (value === undefined) content.get(collection)!.delete(key)
            else content.get(collection)!.set(key, value)
          }
          for (const { collection, key } of changes) {
            assert.equal(store.get(collection, key), content.get(collection)!.get(key))
          }
          for (const asked of [...ranges, {}, { reverse: true }]) {
            for (const collection of collections) {
              assert.deepEqual([...store.range(collection, asked)], inRange(content.get(collection)!, asked))
            }
          }
        },
      ),
      { numRuns: 100 },
    )
  })

  test(`${name}: a write is seen from when it resolves on, and as a whole`, async (t) => {
    const store = await make(t)
    t.after(() => store.close())
    for (let round = 0; round < 20; round++) {
      let done = false
      const writing = store
        .write(collections.map((collection) => [collection, [['key', `${round}`]]]))
        .then(() => {
          done = true
        })
      while (!done) {
        assert.equal(store.get('one', 'key'), store.get('two', 'key'))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await writing
      assert.equal(store.get('one', 'key'), `${round}`)
    }
  })

  test(`${name}: a view is what the store was, whatever is written meanwhile and however long a range stays open`, async (t) => {
    const store = await make(t)
    t.after(() => store.close())
    const keys = Array.from({ length: 2_000 }, (_, i) => `k${String(i).padStart(4, '0')}`)
    const all = (value: string) => keys.map((key) => [key, value] as const)
    await store.write([['one', all('old')]])
    const view = store.view()
    const seen: string[] = []
    for (const [key, value] of view.range('one')) {
      if (seen.length % 500 === 0) {
        await store.write([['one', seen.length % 1_000 === 0 ? all('new') : keys.map((k) => [k, undefined])]])
      }
      assert.equal(value, 'old')
      assert.equal(view.get('one', key), 'old')
      seen.push(key)
    }
    assert.deepEqual(seen, keys)
    assert.deepEqual([...store.range('one')], [])
    const later = store.view()
    assert.deepEqual([[...later.range('one')], [...view.range('one', { reverse: true })].length], [[], 2_000])
    later.close()
    view.close()
    await store.write([['one', [['k', 'v']]]])
    assert.deepEqual([...store.range('one')], [['k', 'v']])
  })

  test(`${name}: the longest keys and large values are held, and ranges left early do no harm`, async (t) => {
    const store = await make(t)
    t.after(() => store.close())
    const long = Array.from({ length: 50 }, (_, i) => String.fromCharCode(i + 1).repeat(keyBytesMax))
    const value = 'é'.repeat(200_000)
    await store.write([['one', long.map((key) => [key, value] as const)]])
    assert.equal(store.get('one', long[7]!), value)
    for (const [key, text] of store.range('one', { from: long[3]!, to: long[9]! })) {
      assert.equal(key, long[3])
      assert.equal(text, value)
      break
    }
    assert.equal([...store.range('one', { from: long[3]!, to: long[9]!, reverse: true })].length, 6)
    await store.write([['one', long.map((key) => [key, undefined] as const)]])
    assert.deepEqual([...store.range('one')], [])
  })
}

test('memory: a snapshot has what is durable, and is independent of the store', async () => {
  const store = memoryStore()
  await store.write([['one', [['a', '1']]]])
  const writing = store.write([['one', [['a', '2']]]])
  const before = store.snapshot()
  await writing
  const after = store.snapshot()
  await store.write([['one', [['a', '3']]]])
  assert.deepEqual([before.get('one', 'a'), after.get('one', 'a')], ['1', '2'])
})

test('lmdb: a reopened store has its data, and new collections', async (t) => {
  // A name that looks like a file with an extension.
  const directory = join(await directoryFor(t), 'state.v1')
  const first = await openLmdbStore({ directory, collections })
  await first.write([['two', [['a', '1']]]])
  await first.close()
  assert.ok((await stat(directory)).isDirectory())
  const many = Array.from({ length: 200 }, (_, i) => `more-${i}`)
  const second = await openLmdbStore({ directory, collections: [...collections, ...many] })
  t.after(() => second.close())
  assert.equal(second.get('two', 'a'), '1')
  await second.write(many.map((name) => [name, [['a', name]]]))
  assert.equal(second.get('more-7', 'a'), 'more-7')
})

test('lmdb: damage is an error that says what to do', async (t) => {
  const unreadable = (error: unknown) =>
    error instanceof HenceError && error.code === 'state-unreadable' && error.advice === 'operator'
  const garbage = await directoryFor(t)
  await writeFile(join(garbage, 'data.mdb'), Buffer.alloc(100_000, 0x55))
  await assert.rejects(openLmdbStore({ directory: garbage, collections }), unreadable)

  const occupied = join(await directoryFor(t), 'file')
  await writeFile(occupied, 'not a directory')
  await assert.rejects(openLmdbStore({ directory: occupied, collections }), unreadable)

  const cut = await directoryFor(t)
  const store = await openLmdbStore({ directory: cut, collections })
  await store.write([['one', [['a', '1']]]])
  await store.close()
  await truncate(join(cut, 'data.mdb'), 4_096)
  await assert.rejects(openLmdbStore({ directory: cut, collections }), unreadable)
})
