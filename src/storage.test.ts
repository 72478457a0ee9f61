import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomFrom } from '../test/random.ts'
import { keep } from './storage.ts'
import { simulatedDisk } from './testing/index.ts'

const code = 'module.exports = {}'

/** Keeps code twice, as two starts do, loses power, and tells what is there then. */
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

test('the code of a version survives a loss of power, whole, and none of its syncs can be left out', async () => {
  for (let seed = 1; seed <= 200; seed++) assert.equal(await keptThrough(seed, []), code)
  for (const label of ['folder of kept texts', 'kept text', 'name of a kept text']) {
    let isLost = false
    for (let seed = 1; seed <= 200 && !isLost; seed++) isLost = (await keptThrough(seed, [label])) !== code
    assert.ok(isLost, `nothing tells that the sync "${label}" is left out`)
  }
})
