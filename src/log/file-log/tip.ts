import { noHash } from './batch.ts'
import { segmentHeaderBytes } from './segment.ts'

/** Where a partition ends: the last good batch, and all that the next one must join on to. */
export interface Tip {
  /** Where in the active segment the next batch goes. */
  readonly position: number
  /** The offset of the next record. */
  readonly offset: number
  readonly epoch: number
  readonly time: number
  /** The hash of the last batch. */
  readonly hash: Buffer
  /** Where the last batch in the active segment stands; undefined when that holds none yet. */
  readonly lastPosition: number | undefined
  /** Whether the last batch is a seal, so that the one before it is vouched for. */
  readonly sealed: boolean
  /** Whether the last batch says that the partition goes on in the next segment. */
  readonly continued: boolean
}

/** The tip of a partition without a record. There is nothing to vouch for, so it counts as sealed. */
export const emptyTip: Tip = {
  position: segmentHeaderBytes,
  offset: 0,
  epoch: 0,
  time: 0,
  hash: noHash,
  lastPosition: undefined,
  sealed: true,
  continued: false,
}

/** The tip of a partition whose last segment is new and empty, from the tip in the segment before it. */
export function continuedIn(before: Tip): Tip {
  return { ...before, position: segmentHeaderBytes, lastPosition: undefined, continued: false }
}
