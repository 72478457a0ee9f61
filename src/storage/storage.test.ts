import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { randomFrom } from '../../test/random.ts'
import { systemClock } from '../clock.ts'
import { simulatedDisk } from '../testing/simulated-disk.ts'
import { holdFile } from './file-lock.ts'
import { derivingLock, keep, openDirectory, type Storage } from './storage.ts'

const code = 'module.exports = {}'

/** Keeps code twice, as two starts do, loses power, and returns what is left. */
async function keptThrough(seed: number, ignoredSyncs: readonly string[]): Promise<string | undefined> {
  const disk = simulatedDisk({ random: randomFrom(seed), ignoredSyncs: new Set(ignoredSyncs) })
  await keep(disk, '/data', 'code/v1.js', code)
  await keep(disk, '/data', 'code/v1.js', code)
  disk.losePower()
  const names = await disk.list('/data/code').catch(() => undefined)
  if (!names?.includes('v1.js')) return undefined
  const file = await disk.open('/data/code/v1.js', 'read')
  const bytes = Buffer.alloc(await file.size())
  await file.read(bytes, 0)
  await file.close()
  return bytes.toString()
}

test('the code of a version survives a loss of power, whole, and each of its syncs is needed', async () => {
  for (let seed = 1; seed <= 200; seed++) assert.equal(await keptThrough(seed, []), code)
  for (const label of ['folder of kept texts', 'kept text', 'name of a kept text']) {
    let isLost = false
    for (let seed = 1; seed <= 200 && !isLost; seed++) isLost = (await keptThrough(seed, [label])) !== code
    assert.ok(isLost, `nothing shows that the sync "${label}" is left out`)
  }
})

test('a directory in which a process of an earlier engine still derives opens when that process has ended', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-storage-'))
  t.after(() => rm(home, { recursive: true }))
  const open = (name: string) =>
    openDirectory({ directory: join(home, name), partitions: 1, clock: systemClock, report: () => {} })
  await mkdir(join(home, 'derived/state'), { recursive: true })
  const held = holdFile(join(home, 'derived', derivingLock))
  assert.ok(held)
  let opened: Storage | undefined
  const opening = open('derived').then((storage) => {
    opened = storage
  })
  // Several times as long as an opening takes.
  for (const name of ['a', 'b', 'c', 'd']) await (await open(name)).close()
  assert.equal(opened, undefined)
  held.release()
  await opening
  await opened!.close()
})

test('what a process derived in passing and left when it died is removed', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-storage-'))
  t.after(() => rm(directory, { recursive: true }))
  const kept = ['0', 'view.sums.0123456789ab.0']
  for (const name of [...kept, 'copies', 'view.derive', 'view.sums.fill.0'])
    await mkdir(join(directory, 'state', name), { recursive: true })
  await (await openDirectory({ directory, partitions: 1, clock: systemClock, report: () => {} })).close()
  const folders = (await readdir(join(directory, 'state'))).filter((name) => !/^(run|tries)/.test(name))
  assert.deepEqual(folders.sort(), kept)
})

test('a part that cannot be closed keeps neither the log open nor the directory locked', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-close-'))
  t.after(() => rm(directory, { recursive: true }))
  const open = () => openDirectory({ directory, partitions: 1, clock: systemClock, report: () => {} })
  const storage = await open()
  // It cannot be removed as a file.
  await rm(join(directory, 'state/run.json'))
  await mkdir(join(directory, 'state/run.json'))
  await assert.rejects(storage.close())
  await assert.rejects(async () => storage.log.append(0, [Buffer.from('late')]), { code: 'log-closed' })
  await rm(join(directory, 'state/run.json'), { recursive: true })
  await (await open()).close()
})
