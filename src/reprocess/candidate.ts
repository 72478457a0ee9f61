import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import type { HenceError } from '../failure.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { CorrectionCounts } from './corrections.ts'
import type { Cut, Progress } from './follower.ts'

/** The generation beside the live one, wherever it is derived: in this process, or in one of its own. */
export interface Candidate {
  readonly generation: number
  /** It was live before, and is kept for the way back. */
  readonly wasLive: boolean
  /** How far it is, as far as is known here. */
  readonly progress: Progress
  /** How much of the time it takes, over 0 to 1; undefined: what is usual where it is derived. */
  share: number | undefined
  /** Begins, or goes on after a pause or a failure. */
  start(): Promise<void>
  /** Stops until `start`. */
  pause(): Promise<void>
  /** Resolves when it has reached the live one; rejects when it failed, is paused or is ended. */
  caughtUp(): Promise<void>
  /** Applies what the live one has applied, which stands still, and no more until `start`. */
  level(cut: Cut): Promise<{ readonly isStill: boolean }>
  /** Applies what stands in the log before these offsets, with no more to come; see `level`. */
  pass(ends: readonly number[]): Promise<void>
  /**
   * Saves what was derived.
   * @param isWhole all that is not kept any more is forgotten first
   */
  save(isWhole: boolean): Promise<void>
  /** Takes a snapshot of the live generation and of this one, to compare them. Both must be saved. */
  snapshot(live: Live): Promise<void>
  /** Compares the two snapshots, a little at a time. */
  sumUp(options: SummaryOptions): Promise<DiffSummary>
  /** Ends `sumUp`, which then throws; also while it waits for its reader. */
  stopSumUp(): void
  /**
   * Works out the corrections of a promotion ahead, while both go on: saves, and compares with what the live one has saved.
   * @param changed the keys that the live one has saved since it was called last; undefined: not known, so all are compared
   * @returns how many keys had changed, with those of this one; infinitely many when that is not known
   */
  correctAhead(live: Live, changed: WrittenKeys | undefined): Promise<number>
  /** Works out what has changed since, and keeps all corrections: both stand still, and are saved. */
  correct(live: Live, changed: WrittenKeys | undefined, promotion: PromotionToCome): Promise<CorrectionFiles>
  /** Releases the snapshot, and corrections that were worked out ahead. */
  release(): Promise<void>
  /** It goes on no more, and whoever waits for it is told why. */
  end(why: HenceError): void
  /** Ends it, saved as far as it was. */
  close(why: HenceError): Promise<void>
}

/** Which generation is live, and the version of its code. */
export interface Live {
  readonly generation: number
  readonly version: string
}

/** A promotion that is about to stand in the log. */
export interface PromotionToCome {
  readonly number: number
  /** Who approves it, with which request. */
  readonly identity: string
  /** Where it will stand in the first partition. */
  readonly offset: number
}

/** Corrections that were worked out and kept. */
export interface CorrectionFiles {
  readonly count: number
  /** SHA-256 of what tells of all of them; see `kept-corrections.ts`. */
  readonly hash: string
  readonly counts: CorrectionCounts
  /** Effects that are asked for anew. */
  readonly effectsNew: number
}

/** How one is to be opened. */
export interface CandidateOptions {
  /** Its number, and those whose place it takes; see `lineageOf`. */
  readonly lineage: readonly number[]
  /** The version of its code at the beginning of the log. */
  readonly base: string
  /** Begin with nothing; what was there is lost. */
  readonly anew: boolean
  readonly wasLive: boolean
  readonly share: number | undefined
  readonly paused: boolean
}
