import { assert } from '../../assert.ts'
import type { Batch } from '../log.ts'
import type { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import { missing, type PartitionFiles } from './partition-files.ts'
import type { Segment } from './segment.ts'
import { readSegment } from './segment-read.ts'

interface SegmentSource {
  readonly first: number
  /** Returns a segment by its number; undefined if the partition has no such segment. */
  segment(number: number): Segment | undefined | Promise<Segment | undefined>
  /** Returns the known batch positions of a segment; the reading adds to them. */
  index(segment: Segment): BatchIndex
  /** Returns the position up to which a segment has been written. Asked before each batch, so it may grow. */
  limit(segment: Segment): number | Promise<number>
}

/**
 * Reads a partition: yields the batches that end after `from`, in order, from segment to segment, and checks
 * each one and the hash chain between them. Every reader of a partition goes through here; they differ in
 * their source.
 */
export async function* readPartition(
  files: PartitionFiles,
  from: number,
  source: SegmentSource,
): AsyncGenerator<Batch> {
  assert(source.first >= 0, 'a reading begins in a segment that exists', source.first)
  let before: { readonly hash: Buffer; readonly offset: number } | undefined
  for (let number = source.first; ; number++) {
    const segment = await source.segment(number)
    if (segment === undefined) throw missing(files.directory, number)
    if (before !== undefined && before.offset !== segment.baseOffset) {
      throw damaged(
        segment.path,
        0,
        `its name says offset ${segment.baseOffset}, but ${before.offset} follows`,
      )
    }
    before = yield* readSegment(files, segment, {
      from,
      previous: before?.hash,
      index: source.index(segment),
      limit: () => source.limit(segment),
    })
    if (before === undefined) return
  }
}

/** Returns the number of the segment that holds an offset, or will hold it. */
export function segmentOf(segments: readonly Segment[], offset: number): number {
  return Math.max(
    0,
    segments.findLastIndex(({ baseOffset }) => baseOffset <= offset),
  )
}
