import { changeError } from '../failure.ts'
import type { Log } from './log.ts'
import { MergeByTime, type PartitionCursor } from './merge-by-time.ts'
import { decodeRecord } from './record.ts'

/**
 * Returns a consistent cut right after some records: by partition, the offset after the last record that is
 * kept.
 *
 * A named partition ends after its record; the others keep records up to the latest log time of a named
 * record. Then each event whose cause lies outside the cut is dropped, with all records after it, so a named
 * partition may end earlier too. A control record is kept in all partitions or in none.
 *
 * @param named by partition, the offset of the record
 */
export async function endsRightAfter(log: Log, named: ReadonlyMap<number, number>): Promise<number[]> {
  let until = 0
  for (const [partition, offset] of named) until = Math.max(until, await timeOf(log, partition, offset))
  const ends = new Array<number>(log.partitions).fill(0)
  const isWanted = (partition: number, offset: number, time: number) => {
    const last = named.get(partition)
    return last === undefined ? time <= until : offset <= last
  }
  /** The number of the last control record that every partition has passed. */
  let passed = -1
  /** Takes records up to one that is not wanted, a new control record, or an event without its cause. */
  const keep = ({ partition, batch, offset: from, available }: PartitionCursor): number => {
    const end = from + available
    for (let offset = from; offset < end; offset++) {
      const record = decodeRecord(batch.records[offset - batch.offset]!)
      const waits =
        (record.kind === 'control' && record.control.number > passed) ||
        !isWanted(partition, offset, batch.time) ||
        (record.kind === 'event' && record.causeOffset >= ends[record.causePartition]!)
      if (waits) break
      ends[partition] = offset + 1
    }
    return ends[partition]! - from
  }

  const merge = await MergeByTime.open(
    ends.map((_, partition) => ({ partition, batches: log.read(partition, 0) })),
  )
  try {
    for (;;) {
      if ((await merge.advance(keep)) > 0) continue
      // No partition gets further: the missing causes never come, unless all stand before a control record.
      const control = controlAt(merge.cursors, log.partitions)
      if (control === undefined) return ends
      const wanted = merge.cursors.map(({ partition, offset, time }) => isWanted(partition, offset, time))
      // The partitions that are not named go along with one that keeps it.
      const isKept = merge.cursors.every(({ partition }, i) => wanted[i] || !named.has(partition))
      if (!isKept || !wanted.includes(true)) return ends
      for (const { partition } of merge.cursors) ends[partition]!++
      passed = control
      await merge.skipAll()
    }
  } finally {
    await merge.close()
  }
}

/** Returns the number of the control record that all partitions stand before; undefined if there is none. */
function controlAt(cursors: readonly PartitionCursor[], partitions: number): number | undefined {
  if (cursors.length < partitions) return undefined
  const numbers = cursors.map(({ record: bytes }) => {
    const record = decodeRecord(bytes)
    return record.kind === 'control' ? record.control.number : undefined
  })
  return numbers.every((number) => number === numbers[0]) ? numbers[0] : undefined
}

async function timeOf(log: Log, partition: number, offset: number): Promise<number> {
  if (partition < log.partitions && offset < (await log.end(partition))) {
    for await (const { time } of log.read(partition, offset)) return time
  }
  throw changeError(
    'token-unknown',
    `The log has no record ${partition}:${offset}. \`hence log cat\` shows which there are, with their tokens.`,
  )
}
