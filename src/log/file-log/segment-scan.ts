import {
  findHeader,
  follows,
  hashOf,
  headerBytes,
  type Lineage,
  payloadIsWhole,
  readHeader,
} from './batch.ts'
import type { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import type { DiskFile } from './disk.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { emptyTip, type Tip, tipAfter } from './tip.ts'
import { Window } from './window.ts'

const pieceBytes = 1024 * 1024
const zeros = Buffer.alloc(pieceBytes)

interface Scan {
  /** Undefined if the segment has no whole batch. */
  readonly tip: Tip | undefined
  /** The position after the last byte that is not zero; equal to the tip's position if only zeros follow it. */
  readonly junkEnd: number
}

/**
 * Reads a segment to the end of its whole batches. The bytes that follow are the torn end of an unfinished
 * write, unless a later batch shows that they were once whole: a batch is written only after the one before
 * it is durable, so a valid header further on means damage.
 *
 * A record may hold bytes that look like a header of this very log. The search skips them where the header of
 * the torn batch still says its length. Otherwise a torn end looks like damage: then a start is refused
 * without need, and nothing is lost.
 *
 * A copy ends before whatever is not whole, since the carrier has the rest.
 */
export async function scanSegment(
  file: DiskFile,
  segment: Segment,
  { lineage, isCopy }: { readonly lineage: Lineage; readonly isCopy: boolean },
  index: BatchIndex,
): Promise<Scan> {
  const window = new Window(file, segment.path)
  let position = segmentHeaderBytes
  let { baseOffset: offset } = segment
  let tip: Tip | undefined
  let beforeLast: number | undefined
  let searchFrom = position
  for (;;) {
    if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, segment.size)
    const header = readHeader(window.bytes, window.indexOf(position, 0), lineage)
    searchFrom = position
    if (header === undefined || header.baseOffset !== offset || tip?.continued) break
    if (tip !== undefined && header.time < tip.time) break
    const length = headerBytes + header.payloadBytes
    if (window.indexOf(position, length) < 0) await window.load(position, length, segment.size)
    const at = window.indexOf(position, length)
    if (at < 0 || !payloadIsWhole(window.bytes, at, header)) {
      searchFrom = position + length
      break
    }
    index.add(offset, position)
    beforeLast = tip?.lastPosition
    offset += header.count
    tip = tipAfter(header, emptyTip.hash, position, length)
    position += length
  }
  const junkEnd = await searchTail(file, segment.size, position, (bytes, start) => {
    const header = isCopy ? -1 : findHeader(bytes, Math.max(0, searchFrom - start), lineage)
    if (header >= 0) {
      throw damaged(
        segment.path,
        position,
        `no whole batch stands there, but one that came later, at byte ${start + header}`,
      )
    }
  })
  if (tip === undefined) return { tip, junkEnd }

  const last = await readBytes(file, tip.lastPosition!, tip.position)
  if (beforeLast !== undefined) {
    const before = await readBytes(file, beforeLast, tip.lastPosition!)
    if (!follows(last, 0, hashOf(before))) {
      throw damaged(segment.path, tip.lastPosition!, 'the batch does not follow the one before it')
    }
  }
  return { tip: { ...tip, hash: hashOf(last) }, junkEnd }
}

/** Returns the position after the last byte that is not zero, from a position on; that position if all are zero. */
export async function findJunkEnd(file: DiskFile, size: number, from: number): Promise<number> {
  return searchTail(file, size, from, () => undefined)
}

/** Goes through the rest of a file in pieces that overlap by a header, so that none is missed at a boundary. */
async function searchTail(
  file: DiskFile,
  size: number,
  from: number,
  look: (bytes: Buffer, position: number) => void,
): Promise<number> {
  const piece = Buffer.allocUnsafe(Math.min(pieceBytes, Math.max(headerBytes, size - from)))
  let end = from
  for (let start = from; start < size; start += piece.length - headerBytes + 1) {
    const bytes = piece.subarray(0, await file.read(piece, start))
    if (bytes.length === 0) break
    if (bytes.equals(zeros.subarray(0, bytes.length))) continue
    end = start + lastNonZero(bytes) + 1
    look(bytes, start)
  }
  return end
}

function lastNonZero(bytes: Buffer): number {
  let index = bytes.length - 1
  while (index >= 0 && bytes[index] === 0) index--
  return index
}

/** Reads the bytes from one position to another, or to the end of the file. */
export async function readBytes(file: DiskFile, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(to - from)
  return bytes.subarray(0, await file.read(bytes, from))
}
