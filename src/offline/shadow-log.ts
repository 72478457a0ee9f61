import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'

/**
 * The snapshot of a log, continued in memory: appended records reach neither the disk nor another reader.
 * @param options.ends where each partition of it ends
 * @param options.until log time of the last record before them; what is appended has it too
 * @param options.read is told how many records were read
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
