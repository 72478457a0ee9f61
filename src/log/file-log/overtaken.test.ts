import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newDisk } from '../../../test/faults/disk-files.ts'
import { HenceError } from '../../failure.ts'
import { HandClock } from '../../testing/hand-clock.ts'
import { openFileLog } from './file-log.ts'

test('a writer that no lock stops writes nothing over the batch of a later one', async () => {
  const disk = newDisk()
  const clock = new HandClock()
  // Without `own`, as if the lock had been lost right after it was looked at.
  const open = () =>
    openFileLog({ directory: '/data', partitions: 1, segmentBytes: 4096, disk, clock, report: () => {} })
  const append = async (log: Awaited<ReturnType<typeof open>>, text: string) =>
    log.append(0, [Buffer.from(text)]).then(
      ({ offset }) => offset,
      (error) => (error instanceof HenceError ? error.code : error),
    )
  const first = await open()
  assert.equal(await append(first, 'a'), 0)
  const second = await open()
  assert.equal(await append(second, 'b'), 1)
  assert.equal(await append(first, 'late'), 'data-taken')
  assert.equal(await append(first, 'later'), 'data-taken')
  assert.equal(await append(second, 'c'), 2)
  await assert.rejects(first.close(), { code: 'data-taken' })
  await second.close()
  const third = await open()
  const found: string[] = []
  for await (const { records } of third.read(0, 0)) found.push(...records.map(String))
  assert.deepEqual(found, ['a', 'b', 'c'])
  await third.close()
})

test('a check in the middle of writes finds nothing', async () => {
  const disk = newDisk()
  const log = await openFileLog({
    directory: '/data',
    partitions: 1,
    disk,
    clock: new HandClock(),
    report: () => {},
  })
  const checks: Promise<void>[] = []
  for (let i = 0; i < 3; i++) {
    let isWritten = false
    const written = log.append(0, [Buffer.from(`record ${i}`)]).finally(() => {
      isWritten = true
    })
    while (!isWritten) {
      checks.push(log.check())
      await undefined
      if (checks.length % 20 === 0) await new Promise(setImmediate)
    }
    await written
  }
  await Promise.all(checks)
  await log.close()
})
