import assert from 'node:assert/strict'
import { test } from 'node:test'
import { diskWith, filesOf, newDisk } from '../../test/faults/disk-files.ts'
import type { HenceError } from '../failure.ts'
import { openFileLog } from './file-log/file-log.ts'
import type { Log } from './log.ts'
import { RecordReader, recordsAt } from './records-at.ts'

const options = { directory: '/data', sealAfterMs: 60_000, report: () => {}, newLogId: 'ab'.repeat(16) }
const text = (n: number) => `record ${n} ${'.'.repeat(n % 50)}`

/** A log of one partition with many batches of a few records in several segments, and its files. */
async function written(count: number) {
  const disk = newDisk()
  const log = await openFileLog({ ...options, disk, partitions: 1, segmentBytes: 40_000 })
  for (let at = 0; at < count; ) {
    const size = Math.min(1 + (at % 7), count - at)
    await log.append(
      0,
      Array.from({ length: size }, (_, i) => Buffer.from(text(at + i))),
    )
    at += size
  }
  await log.close()
  return await filesOf(disk, '/data')
}

/** How many readings of the log begin. */
function counted(log: Log) {
  const counts = { readings: 0 }
  const read: Log['read'] = (partition, from) => {
    counts.readings++
    return log.read(partition, from)
  }
  return { counts, log: { ...log, id: log.id, partitions: log.partitions, read } as Log }
}

test('calls that come together are served by one reading, in any order, also for the same record twice', async () => {
  const log = await openFileLog({ ...options, disk: await diskWith(await written(3_000)) })
  const { counts, log: seen } = counted(log)
  const reader = new RecordReader(seen)
  const offsets = [7, 2_999, 8, 7, 1_500, 0, 1_501, 9]
  const found = await Promise.all(offsets.map((offset) => reader.read(0, offset)))
  assert.deepEqual(
    found.map(({ offset, bytes }) => [offset, bytes.toString()]),
    offsets.map((offset) => [offset, text(offset)]),
  )
  assert.equal(counts.readings, 3)
  assert.equal((await reader.read(0, 2)).bytes.toString(), text(2))
  await log.close()
})

test('an unreadable record fails its own call, and no other', async () => {
  const files = new Map(await written(600))
  const [path, bytes] = [...files].find(([path]) => path.includes('/00000000'))!
  const broken = Buffer.from(bytes)
  broken[broken.indexOf(text(100))]! ^= 1
  const log = await openFileLog({ ...options, disk: await diskWith(files.set(path, broken)) })
  const reader = new RecordReader(log)
  const fates = await Promise.all(
    [50, 100, 150, 300, 601].map((offset) =>
      reader.read(0, offset).then(
        ({ bytes }) => bytes.toString(),
        ({ code }: HenceError) => code,
      ),
    ),
  )
  assert.deepEqual(fates, [text(50), 'log-damaged', text(150), text(300), 'offset-out-of-range'])
  await log.close()
})

test('a record that should be at the end of the log, and is not, is an error', async () => {
  const log = await openFileLog({ ...options, disk: await diskWith(await written(20)) })
  const all = async () => {
    for await (const _ of recordsAt(log, 0, [3, 20]));
  }
  await assert.rejects(all, { code: 'log-damaged', message: /Record 20 of partition 0 should be there/ })
  await log.close()
})
