import { type BatchHeader, flagSeal, isContinued, noHash } from './batch.ts'
import { segmentHeaderBytes } from './segment.ts'

/** The end of a partition: its last whole batch, and everything that the next batch must continue from. */
export interface Tip {
  /** The position of the next batch in the active segment. */
  readonly position: number
  /** The offset of the next record. */
  readonly offset: number
  readonly epoch: number
  /** Log time of the last batch, in milliseconds since 1970. */
  readonly time: number
  /** All records below this offset had been derived when the last batch was written. */
  readonly decided: number
  readonly hash: Buffer
  /** The position of the last batch in the active segment; undefined while that segment holds none. */
  readonly lastPosition: number | undefined
  /** Whether the last batch is a seal, so that the one before it is vouched for. */
  readonly sealed: boolean
  /** Whether the last batch says that the partition continues in the next segment. */
  readonly continued: boolean
}

/** The tip of a partition without a record. There is nothing to vouch for, so it counts as sealed. */
export const emptyTip: Tip = {
  position: segmentHeaderBytes,
  offset: 0,
  epoch: 0,
  time: 0,
  decided: 0,
  hash: noHash,
  lastPosition: undefined,
  sealed: true,
  continued: false,
}

/** Returns the tip after a batch at a position of a segment. */
export function tipAfter(header: BatchHeader, hash: Buffer, position: number, bytes: number): Tip {
  const { baseOffset, count, epoch, time, decided, flags } = header
  return {
    position: position + bytes,
    offset: baseOffset + count,
    epoch,
    time,
    decided,
    hash,
    lastPosition: position,
    sealed: (flags & flagSeal) !== 0,
    continued: isContinued(header),
  }
}

/** Returns the tip in a new, empty segment, from the tip in the segment before it. */
export function continuedIn(before: Tip): Tip {
  return { ...before, position: segmentHeaderBytes, lastPosition: undefined, continued: false }
}
