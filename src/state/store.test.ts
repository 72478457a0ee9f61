import assert from 'node:assert/strict'
import { mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { HenceError } from '../failure.ts'
import { storeConformance } from '../testing/store-conformance.ts'
import { openLmdbStore } from './lmdb-store.ts'
import { memoryStore } from './memory-store.ts'

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

  const cut = await newPlace()
  const store = await openLmdbStore({ directory: cut, collections })
  await store.write([['one', [['a', '1']]]])
  await store.close()
  await truncate(join(cut, 'data.mdb'), 4_096)
  await assert.rejects(openLmdbStore({ directory: cut, collections }), unreadable)
})
