import assert from 'node:assert/strict'
import { mkdtemp, open as openFile, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { crc32 } from 'node:zlib'
import { open } from 'lmdb'
import { storeConformance } from '../../test/store-conformance.ts'
import { HenceError } from '../failure.ts'
import { checksumLength, crcOf } from './checksum.ts'
import { checkLmdbStore, isUseless } from './lmdb-check.ts'
import { openLmdbStore } from './lmdb-store.ts'
import { memoryStore } from './memory-store.ts'
import type { CollectionChanges } from './store.ts'

const places: string[] = []
after(() => Promise.all(places.map((place) => rm(place, { recursive: true, force: true }))))

async function newPlace(): Promise<string> {
  const place = await mkdtemp(join(tmpdir(), 'hence-state-'))
  places.push(place)
  return place
}

storeConformance('memory store', {
  durable: false,
  newPlace: async () => '',
  open: async () => memoryStore(),
})

storeConformance('LMDB store', {
  durable: true,
  newPlace,
  open: (directory, collections) => openLmdbStore({ directory, collections }),
})

storeConformance('LMDB store in blocks', {
  durable: true,
  newPlace,
  open: (directory, collections) => openLmdbStore({ directory, collections, packed: new Set(collections) }),
})

test('memory store: a snapshot has what is durable, and does not change', async () => {
  const store = memoryStore()
  await store.write([['one', [['a', '1']]]])
  const writing = store.write([['one', [['a', '2']]]])
  const before = store.snapshot()
  await writing
  const after = store.snapshot()
  await store.write([['one', [['a', '3']]]])
  assert.deepEqual([before.get('one', 'a'), after.get('one', 'a')], ['1', '2'])
})

test('LMDB store: a write is one transaction, however many rows it has, and also if it is closed meanwhile', async () => {
  const directory = await newPlace()
  const written = (round: number, count: number): CollectionChanges => [
    'one',
    Array.from({ length: count }, (_, i) => [`k${i}`, `${round}`] as const),
  ]
  for (const [round, count] of [1, 5, 2_000, 5_000, 203_000].entries()) {
    const store = await openLmdbStore({ directory, collections: ['one'] })
    const other = open({ path: directory, noSubdir: false, readOnly: true })
    const transactions = () => (other.getStats() as { lastTxnId: number }).lastTxnId
    const before = transactions()
    const writing = store.write([written(round, count)])
    await Promise.all([store.close(), writing])
    assert.equal(transactions(), before + 1, `${count} rows`)
    await other.close()
    const again = await openLmdbStore({ directory, collections: ['one'] })
    const found = [...again.range('one')]
    assert.deepEqual([found.length, new Set(found.map(([, value]) => value))], [count, new Set([`${round}`])])
    await again.close()
  }
})

test('LMDB store: the directory may have a name like that of a file', async () => {
  const directory = join(await newPlace(), 'state.v1')
  const store = await openLmdbStore({ directory, collections: ['one'] })
  await store.close()
  assert.ok((await stat(directory)).isDirectory())
})

test('LMDB store: damage is an error that says what to do', async () => {
  const collections = ['one', 'two']
  const unreadable = (error: unknown) =>
    error instanceof HenceError && error.code === 'state-unreadable' && error.advice === 'operator'
  const garbage = await newPlace()
  await writeFile(join(garbage, 'data.mdb'), Buffer.alloc(100_000, 0x55))
  await assert.rejects(openLmdbStore({ directory: garbage, collections }), unreadable)

  const occupied = join(await newPlace(), 'file')
  await writeFile(occupied, 'not a directory')
  await assert.rejects(openLmdbStore({ directory: occupied, collections }), unreadable)
  // Nothing is wrong with a state that cannot be reached.
  const below = openLmdbStore({ directory: join(occupied, 'state'), collections })
  await assert.rejects(below, { code: 'file-unusable' })

  const cut = await newPlace()
  const store = await openLmdbStore({ directory: cut, collections })
  await store.write([['one', [['a', '1']]]])
  await store.close()
  await truncate(join(cut, 'data.mdb'), 4_096)
  await assert.rejects(openLmdbStore({ directory: cut, collections }), unreadable)
})

test('LMDB store: a value that changes under it is an error when it is read', async () => {
  const directory = await newPlace()
  const store = await openLmdbStore({ directory, collections: ['one'] })
  await store.write([
    [
      'one',
      [
        ['a', 'the first value'],
        ['b', 'another'],
      ],
    ],
  ])
  assert.equal(store.get('one', 'a'), 'the first value')
  const at = (await readFile(join(directory, 'data.mdb'))).indexOf('the first value')
  const file = await openFile(join(directory, 'data.mdb'), 'r+')
  await file.write('7', at)
  await file.close()
  const damaged = (error: unknown) =>
    isUseless(error) && /the value of "a" of "one" does not have its checksum/.test(String(error))
  assert.throws(() => store.get('one', 'a'), damaged)
  assert.throws(() => [...store.range('one')], damaged)
  assert.equal(store.get('one', 'b'), 'another')
  await assert.rejects(checkLmdbStore(directory, { isInUse: true }), damaged)
  await store.close()
  await assert.rejects(checkLmdbStore(directory, { isInUse: false }), damaged)
})

test('LMDB store: a value under the key of another is an error', async () => {
  const directory = await newPlace()
  const store = await openLmdbStore({ directory, collections: ['one'] })
  const [a, b] = ['a value', 'another']
  const entries = [['a', a] as const, ['b', Buffer.from(b)] as const]
  await store.write([['one', entries]])
  const path = join(directory, 'data.mdb')
  const bytes = await readFile(path)
  const [ofA, ofB] = [a, b].map((text) => bytes.indexOf(text)) as [number, number]
  const whole = (at: number) => Buffer.from(bytes.subarray(at, at + a.length + checksumLength))
  const file = await openFile(path, 'r+')
  await file.write(whole(ofB), 0, undefined, ofA)
  await file.write(whole(ofA), 0, undefined, ofB)
  await file.close()
  for (const key of ['a', 'b']) assert.throws(() => store.get('one', key), isUseless)
  await assert.rejects(checkLmdbStore(directory, { isInUse: true }), isUseless)
  await store.close()
})

test('the sum of a text is its CRC-32, whatever its length', () => {
  const bytes = Buffer.from(Array.from({ length: 600 }, (_, i) => (i * i * 7_919) % 251))
  for (let to = 1; to <= bytes.length; to++)
    assert.equal(crcOf(bytes, 1, to), crc32(bytes.subarray(1, to)) | 0, `${to - 1} bytes`)
})

test('LMDB store: a check beside writes finds nothing', async () => {
  const directory = await newPlace()
  const store = await openLmdbStore({ directory, collections: ['one'] })
  const writing = (async () => {
    for (let round = 0; round < 200; round++) {
      const entries = Array.from(
        { length: 300 },
        (_, i) => [`${(i * 7 + round) % 911}`, `${round} `.repeat(i)] as const,
      )
      await store.write([['one', entries]])
    }
  })()
  const apart = { progress: () => {}, signal: new AbortController().signal }
  for (let i = 0; i < 60; i++)
    await checkLmdbStore(directory, { isInUse: true, ...(i % 8 === 0 && { apart }) })
  await writing
  await store.close()
  assert.equal(await checkLmdbStore(directory, { isInUse: false }), true)
})

test('LMDB store: one whose making was not finished can be read, and has nothing', async () => {
  const directory = await newPlace()
  await (await openLmdbStore({ directory, collections: [] })).close()
  const store = await openLmdbStore({ directory, collections: ['one'], readOnly: true })
  assert.deepEqual([store.get('one', 'a'), [...store.range('one')]], [undefined, []])
  await store.close()
})

test('LMDB store: another format is an error that says so', async () => {
  const directory = await newPlace()
  const root = open<string, string>({
    path: directory,
    noSubdir: false,
    maxDbs: 2,
    encoding: 'string',
    overlappingSync: false,
  })
  await root.openDB<string, string>('one', { encoding: 'string' }).put('a', '1')
  await root.close()
  const ofNone = (error: unknown) => isUseless(error) && /it has format none/.test(String(error))
  await assert.rejects(checkLmdbStore(directory, { isInUse: false }), ofNone)
  await assert.rejects(openLmdbStore({ directory, collections: ['one'] }), ofNone)
})
