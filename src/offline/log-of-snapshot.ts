import { assert } from '../assert.ts'
import { type LogSnapshot, readSnapshot } from '../log/file-log/snapshot.ts'
import { type Batch, countOf, type Log } from '../log/log.ts'

/** A snapshot of a log as a `Log` that can only be read, up to its end or to given ends. */
export function logOfSnapshot({ id, partitions }: LogSnapshot, ends?: readonly number[]): Log {
  assert(ends === undefined || ends.length === partitions.length, 'there is an end for every partition')
  return {
    id,
    partitions: partitions.length,
    append: () => Promise.reject(new Error('A snapshot of a log cannot be appended to.')),
    read: (partition, from) => {
      const batches = readSnapshot(partitions[partition]!, from)
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
    if (count < countOf(batch)) {
      const { kinds: _, ...rest } = batch
      yield { ...rest, records: batch.records.slice(0, count) }
    } else yield batch
  }
}
