import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'

/**
 * A log that was looked at, which goes on in memory: what is appended reaches no disk and nobody else.
 * @param options.ends where each partition of it ends
 * @param options.until log time of the last record before them; what is appended has it too
 * @param options.read is told how many records were read
 */
export function shadowLog(
  looked: Log,
  options: {
    readonly ends: readonly number[]
    readonly until: number
    readonly read: (records: number) => void
  },
): Log {
  const { ends, until, read } = options
  const { id, partitions } = looked
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
        for await (const batch of looked.read(partition, from)) {
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
