import { type LogLook, readLooked } from '../log/file-log/snapshot.ts'
import type { Batch, Log } from '../log/log.ts'

/**
 * The log as it was when it was looked at, to be read only.
 * @param ends by partition: where it ends, if that is before what was looked at
 */
export function lookedLog({ id, partitions }: LogLook, ends?: readonly number[]): Log {
  return {
    id,
    partitions: partitions.length,
    append: () => Promise.reject(new Error('This log is only looked at.')),
    read: (partition, from) => {
      const batches = readLooked(partitions[partition]!, from)
      return ends === undefined ? batches : upTo(ends[partition]!, batches)
    },
    end: async (partition) => {
      const { findings, damage } = partitions[partition]!
      if (findings === undefined) throw damage
      return ends?.[partition] ?? findings.tip.offset
    },
    close: async () => {},
  }
}

async function* upTo(end: number, batches: AsyncIterable<Batch>): AsyncGenerator<Batch> {
  for await (const batch of batches) {
    const count = end - batch.offset
    if (count <= 0) return
    yield count < batch.records.length ? { ...batch, records: batch.records.slice(0, count) } : batch
  }
}
