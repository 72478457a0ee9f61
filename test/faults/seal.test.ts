import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { rule } from 'hence/offline'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { snapshotLog } from '../../src/log/file-log/snapshot.ts'
import { crashAt } from '../crash-points.ts'

// A process answers a request, is idle, and is killed: nobody may rule on that request afterwards.

/** The last batch header of the only segment of a partition: whether it is a seal, and the end of the records. */
async function lastHeader(data: string, partition: number): Promise<{ isSeal: boolean; end: number }> {
  const folder = join(data, `log/p000${partition}`)
  const [segment] = (await readdir(folder)).filter((name) => name.endsWith('.segment'))
  const file = await open(join(folder, segment!))
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, 0)
    let at = 36
    let last = { isSeal: false, end: 0 }
    while (at + 128 <= bytesRead && buffer.toString('latin1', at, at + 4) === 'HNCB') {
      const end = Number(buffer.readBigUInt64LE(at + 32)) + buffer.readUInt32LE(at + 56)
      last = { isSeal: (buffer.readUInt16LE(at + 6) & 1) !== 0, end }
      at += 128 + buffer.readUInt32LE(at + 60)
    }
    return last
  } finally {
    await file.close()
  }
}

for (const { name, request } of [
  { name: 'a quick request', request: { type: 'count', input: { jar: 'a' } } },
  // Its derivation takes longer than a seal waits.
  { name: 'a slow request', request: { type: 'walk', input: { jar: 'a', step: 1e-8 } } },
]) {
  const point = crashAt(
    'log sealed',
    `after a kill no operator overturns the outcome of ${name} that was sent`,
  )
  test(point, async () => {
    const data = await mkdtemp(join(tmpdir(), 'hence-seal-'))
    const main = fileURLToPath(import.meta.resolve('./poison-process.ts'))
    const child = spawn(
      process.execPath,
      ['-C', 'hence-source', main, data, JSON.stringify({ ...request, id: 'one' }), 'stay'],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    try {
      let token = ''
      for await (const line of createInterface(child.stdout)) {
        const { id, status, token: position } = JSON.parse(line)
        if (id !== 'one') continue
        assert.equal(status, 'accepted')
        token = position
        break
      }
      const [partition, offset] = token.split(':').map(Number) as [number, number]
      for (;;) {
        const { isSeal, end } = await lastHeader(data, partition)
        if (isSeal && end > offset) break
        await new Promise(setImmediate)
      }
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      await assert.rejects(rule({ data, record: token }), { code: 'ruling-refused' })
    } finally {
      child.kill('SIGKILL')
      await rm(data, { recursive: true })
    }
  })
}

test('a log that stands still says how far it was derived, also when that moves after the seal', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-seal-'))
  const log = await openFileLog({ directory, sealAfterMs: 0 })
  try {
    await log.append(0, [Buffer.from('a'), Buffer.from('b')])
    for (const derived of [1, 2]) {
      log.derived!(0, derived)
      for (let decided = 0; decided < derived; ) {
        const { partitions } = (await snapshotLog(directory))!
        decided = partitions[0]!.findings!.tip.decided
      }
    }
    assert.equal(await log.decided!(0), 2)
  } finally {
    await log.close()
    await rm(directory, { recursive: true })
  }
})
