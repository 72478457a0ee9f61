import type { Batch } from './log.ts'

/** One partition, and its batches in their order. */
export interface BatchesOfPartition {
  readonly partition: number
  readonly batches: AsyncIterable<Batch>
}

/** The batches of several partitions, by log time, then in the order in which the partitions are given. */
export async function* batchesByTime(
  sources: Iterable<BatchesOfPartition>,
): AsyncGenerator<[partition: number, batch: Batch]> {
  const heads: { readonly partition: number; readonly rest: AsyncIterator<Batch>; batch: Batch }[] = []
  try {
    for (const { partition, batches } of sources) {
      const rest = batches[Symbol.asyncIterator]()
      const { value } = await rest.next()
      if (value) heads.push({ partition, rest, batch: value })
    }
    while (heads.length > 0) {
      const head = heads.reduce((a, b) => (b.batch.time < a.batch.time ? b : a))
      yield [head.partition, head.batch]
      const { value } = await head.rest.next()
      if (value) head.batch = value
      else heads.splice(heads.indexOf(head), 1)
    }
  } finally {
    // Those that have not come to their end hold files open.
    for (const { rest } of heads) await rest.return?.()
  }
}
