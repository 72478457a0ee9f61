import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyBytesMax } from '../src/state/keys.ts'
import type { CollectionChanges, KeyRange, Store } from '../src/state/store.ts'

/** Creates the stores that the suite tests. */
interface StoreConformance {
  /** Opens the store of a place with these collections; a new place gets an empty store. */
  open(place: string, collections: readonly string[]): Promise<Store>
  /** Creates a new place, for example a directory. */
  newPlace(): Promise<string>
  /** Whether values survive closing and opening the place; false for a store in memory. */
  readonly durable: boolean
}

const collections = ['one', 'two']
/** Else a checkpoint of 50,000 rows would keep everything waiting for a tenth of a second. */
const rowsInTurnMax = 2_000

/**
 * Tests with `node:test` that a store keeps the contract of `Store`. Call it in a test file, once per kind of
 * store.
 */
export function storeConformance(name: string, made: StoreConformance): void {
  const check = (what: string, run: (store: Store, place: string) => Promise<void>) =>
    test(`${name}: ${what}`, async () => {
      const place = await made.newPlace()
      const store = await made.open(place, collections)
      try {
        await run(store, place)
      } finally {
        await store.close()
      }
    })

  check('holds what was written, in the order of the keys', async (store) => {
    const random = randomFrom(1)
    const content = new Map(collections.map((collection) => [collection, new Map<string, string>()]))
    for (let round = 0; round < 200; round++) {
      const changes = Array.from({ length: random(21) }, () => randomChange(random))
      await store.write(changes.map(({ collection, key, value }) => [collection, [[key, value]]]))
      for (const { collection, key, value } of changes) {
        if (value === undefined) content.get(collection)!.delete(key)
        else content.get(collection)!.set(key, value.toString())
      }
      for (const { collection, key } of changes) {
        assert.equal(store.get(collection, key), content.get(collection)!.get(key))
      }
      const ranges: KeyRange[] = [{}, { reverse: true }]
      for (let i = 0; i < 5; i++) ranges.push(randomRange(random))
      for (const range of ranges) {
        for (const collection of collections) {
          assert.deepEqual([...store.range(collection, range)], inRange(content.get(collection)!, range))
        }
      }
    }
  })

  check('a write is visible once it resolves, and only as a whole', async (store) => {
    for (let round = 0; round < 20; round++) {
      let isDone = false
      const writing = store
        .write(collections.map((collection) => [collection, [['key', `${round}`]]]))
        .then(() => {
          isDone = true
        })
      while (!isDone) {
        assert.equal(store.get('one', 'key'), store.get('two', 'key'))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await writing
      assert.equal(store.get('one', 'key'), `${round}`)
    }
  })

  check(
    'a write of many rows is spread over turns of the event loop, and yet visible as a whole',
    async (store) => {
      const entries = (round: number) =>
        Array.from({ length: 9_000 }, (_, i) => [`k${i}`, `${round}`] as const)
      await store.write(collections.map((collection) => [collection, entries(0)]))
      let [inTurn, most, isDone] = [0, 0, false]
      function* counted(): CollectionChanges[1] {
        for (const entry of entries(1)) {
          if (inTurn++ === 0)
            setImmediate(() => {
              most = Math.max(most, inTurn)
              inTurn = 0
            })
          yield entry
        }
      }
      const writing = store.write(collections.map((collection) => [collection, counted()])).then(() => {
        isDone = true
      })
      while (!isDone) {
        const seen = collections.flatMap((collection) =>
          ['k0', 'k8999'].map((key) => store.get(collection, key)),
        )
        assert.equal(new Set(seen).size, 1, `${seen}`)
        await new Promise((resolve) => setImmediate(resolve))
      }
      await writing
      if (made.durable) assert.ok(most <= rowsInTurnMax, `${most} rows in one turn`)
      assert.equal([...store.range('two')].filter(([, value]) => value === '1').length, 9_000)
    },
  )

  check('a view stays as it was, whatever is written and however long a range stays open', async (store) => {
    const keys = Array.from({ length: 2_000 }, (_, i) => `k${String(i).padStart(4, '0')}`)
    const all = (value: string | undefined): CollectionChanges => ['one', keys.map((key) => [key, value])]
    await store.write([all('old')])
    const view = store.view()
    const seen: string[] = []
    for (const [key, value] of view.range('one')) {
      if (seen.length % 500 === 0) await store.write([all(seen.length % 1_000 === 0 ? 'new' : undefined)])
      assert.equal(value, 'old')
      assert.equal(view.get('one', key), 'old')
      seen.push(key)
    }
    assert.deepEqual(seen, keys)
    assert.deepEqual([...store.range('one')], [])
    const later = store.view()
    assert.deepEqual([...later.range('one')], [])
    assert.equal([...view.range('one', { reverse: true })].length, 2_000)
    later.close()
    view.close()
    await store.write([['one', [['k', 'v']]]])
    assert.deepEqual([...store.range('one')], [['k', 'v']])
  })

  check('holds the longest keys and large values, and a range may be left early', async (store) => {
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

  if (!made.durable) return
  test(`${name}: holds what was written when it is opened again, with new collections`, async () => {
    const place = await made.newPlace()
    const first = await made.open(place, collections)
    await first.write([['two', [['a', '1']]]])
    await first.close()
    const more = Array.from({ length: 200 }, (_, i) => `more-${i}`)
    const second = await made.open(place, [...collections, ...more])
    try {
      assert.equal(second.get('two', 'a'), '1')
      await second.write(more.map((name) => [name, [['a', name]]]))
      assert.equal(second.get('more-7', 'a'), 'more-7')
    } finally {
      await second.close()
    }
  })
}

type Random = (below: number) => number

/** Mulberry32: the same numbers in every run. */
function randomFrom(seed: number): Random {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const bytes = ['\0', '\x05', 'a', 'b', '\x80', '\xff']
const values = [undefined, '', 'text', 'é', '👩‍🚀 and more', Buffer.from('bytes of a é')]

function randomKey(random: Random): string {
  return Array.from({ length: 1 + random(3) }, () => bytes[random(bytes.length)]).join('')
}

function randomChange(random: Random) {
  const collection = collections[random(collections.length)]!
  return { collection, key: randomKey(random), value: values[random(values.length)] }
}

function randomRange(random: Random): KeyRange {
  return {
    ...(random(2) === 0 && { from: randomKey(random) }),
    ...(random(2) === 0 && { to: randomKey(random) }),
    ...(random(2) === 0 && { reverse: random(2) === 0 }),
  }
}

function inRange(content: ReadonlyMap<string, string>, { from, to, reverse }: KeyRange): [string, string][] {
  const entries = [...content]
    .filter(([key]) => (from === undefined || key >= from) && (to === undefined || key < to))
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return reverse ? entries.reverse() : entries
}
