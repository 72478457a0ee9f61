import { lookedLog } from '../audit/looked-log.ts'
import type { LogLook } from '../log/file-log/look.ts'
import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'

/**
 * A log as it was looked at, up to some offsets, which goes on in memory: what is appended reaches no disk and nobody else.
 * @param options.ends where each partition ends: between two batches
 * @param options.until log time of the last record before them; what is appended has it too
 * @param options.read is told how many records were read
 */
export function shadowLog(
  look: LogLook,
  options: {
    readonly ends: readonly number[]
    readonly until: number
    readonly read: (records: number) => void
  },
): Log {
  const { ends, until, read } = options
  const looked = lookedLog(look)
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
          if (batch.offset >= end) break
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
