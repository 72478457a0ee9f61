import { assert } from '../assert.ts'
import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'

/**
 * The snapshot of a log, continued in memory: appended records reach neither the disk nor another reader.
 * @param options.ends the offset at which each partition of the snapshot ends
 * @param options.until the log time of the last record before these ends; appended records get it too
 * @param options.read called with the number of records of each batch that is read from the snapshot
 */
export function shadowLog(
  snapshot: Log,
  options: {
    readonly ends: readonly number[]
    readonly until: number
    readonly read: (records: number) => void
  },
): Log {
  const { ends, until, read } = options
  const { id, partitions } = snapshot
  assert(ends.length === partitions, 'a shadow log has an end for every partition', ends.length, partitions)
  const tail = memoryLog({ id, partitions, clock: { now: () => until } })
  return {
    id,
    partitions,
    async append(partition, records) {
      const { offset, time } = await tail.append(partition, records)
      return { offset: ends[partition]! + offset, time }
    },
    async *read(partition, from): AsyncGenerator<Batch> {
      const end = ends[partition]!
      if (from < end) {
        for await (const batch of snapshot.read(partition, from)) {
          read(batch.records.length)
          yield batch
        }
      }
      for await (const batch of tail.read(partition, Math.max(0, from - end))) {
        yield { ...batch, offset: end + batch.offset }
      }
    },
    end: async (partition) => ends[partition]! + (await tail.end(partition)),
    close: () => tail.close(),
  }
}
