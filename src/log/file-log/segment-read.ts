import type { HenceError } from '../../failure.ts'
import type { Batch } from '../log.ts'
import {
  follows,
  hashOf,
  headerBytes,
  isContinued,
  noHash,
  payloadIsWhole,
  previousHashOf,
  readHeader,
  recordsOf,
} from './batch.ts'
import type { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import type { PartitionFiles } from './partition-files.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { readFailed, Window } from './window.ts'

/**
 * Yields the batches of a segment that end after an offset, and checks each. Batches before the offset are
 * skipped by their headers alone, so the first batch after them is not checked against the hash of the one
 * before it.
 * @returns if the partition continues in the next segment: the hash of the last batch, and the offset that
 *   follows
 */
export async function* readSegment(
  { disk, lineage }: PartitionFiles,
  segment: Segment,
  options: {
    readonly from: number
    /** The hash of the batch before the segment; undefined if it is not known, and then it is not checked. */
    readonly previous: Buffer | undefined
    /** Where to begin; the reading adds the positions that it passes. */
    readonly index: BatchIndex
    /** Returns the position up to which the segment has been written; called before each batch. */
    limit(): number | Promise<number>
  },
): AsyncGenerator<Batch, { hash: Buffer; offset: number } | undefined> {
  const { from, previous, index } = options
  let { offset, position } = index.find(from)
  let hash = position > segmentHeaderBytes ? undefined : segment.number === 0 ? noHash : previous
  let time = 0
  const file = await disk.open(segment.path, 'read').catch((error) => {
    throw readFailed(segment.path, error)
  })
  try {
    const window = new Window(file, segment.path)
    for (;;) {
      const limit = await options.limit()
      if (position === limit) return undefined
      if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, limit)
      const header = readHeader(window.bytes, window.indexOf(position, 0), lineage)
      if (header === undefined) throw damaged(segment.path, position, 'there is no batch header')
      const length = headerBytes + header.payloadBytes
      if (header.baseOffset !== offset || header.time < time) throw doesNotFollow(segment, position)
      time = header.time
      index.add(offset, position)
      const continues = isContinued(header)
      const [first, start] = [offset, position]
      offset += header.count
      position += length
      if (offset <= from && !continues) {
        hash = undefined
        continue
      }
      if (window.indexOf(start, length) < 0) await window.load(start, length, limit)
      const at = window.indexOf(start, length)
      if (at < 0 || !payloadIsWhole(window.bytes, at, header)) {
        throw damaged(segment.path, start, 'the payload of the batch is not what was written')
      }
      if (hash !== undefined && !follows(window.bytes, at, hash)) throw doesNotFollow(segment, start)
      if (header.count > 0) {
        const found = recordsOf(window.bytes, at, header)
        if (found === undefined) {
          throw damaged(segment.path, start, 'the lengths of the records do not add up')
        }
        const before = Buffer.from(previousHashOf(window.bytes, at))
        const { kinds, views } = found
        yield {
          offset: first,
          time: header.time,
          before,
          kinds,
          get records() {
            return views()
          },
        }
      }
      // Hashed after the yield: a caller that wanted a single record has left by then.
      hash = hashOf(window.bytes.subarray(at, at + length))
      if (continues) return { hash, offset }
    }
  } finally {
    await file.close()
  }
}

function doesNotFollow({ path }: Segment, position: number): HenceError {
  return damaged(path, position, 'the batch does not follow the one before it')
}
