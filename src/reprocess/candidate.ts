import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import type { HenceError } from '../failure.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { CorrectionCounts } from './corrections.ts'
import type { CandidateProgress, LiveProgress } from './follower.ts'
import type { GenerationVersion } from './reprocessing.ts'

/** The generation beside the live one, derived in this process or in a child process. */
export interface Candidate {
  /** How far it has come, according to its last report. */
  readonly progress: CandidateProgress
  /** Sets the share of the time that it works, over 0 to 1. */
  setShare(share: number): Promise<void>
  /** Begins, or continues after a pause or a failure. */
  start(): Promise<void>
  pause(): Promise<void>
  /** Resolves when it has caught up with the live generation; rejects when it failed, is paused or is ended. */
  caughtUp(): Promise<void>
  /**
   * Applies exactly what the live generation has applied, and nothing more until `start`. The live generation
   * is quiesced.
   * @returns the candidate's positions, and whether none of its messages is left in flight
   */
  align(to: LiveProgress): Promise<Alignment>
  /** Saves a checkpoint. @param prune first forgets everything that has outlived its retention */
  save(prune: boolean): Promise<void>
  /** Takes snapshots of the saved state of both generations, for `compare`. */
  snapshot(live: GenerationVersion): Promise<void>
  /** Compares the two snapshots, in small steps. */
  compare(options: SummaryOptions): Promise<DiffSummary>
  /** Makes `compare` reject, even while it waits for its reader. */
  stopComparing(): void
  /**
   * Works out the corrections of a promotion while both generations go on: saves, and compares with what the
   * live one has saved.
   * @param changed the keys that the live generation has saved since the last call; undefined: unknown, so
   *   everything is compared
   * @returns how many keys had changed in either generation; infinity if everything was compared
   */
  correctAhead(live: GenerationVersion, changed: WrittenKeys | undefined): Promise<number>
  /**
   * Writes the corrections that were worked out to their files, while requests go on.
   * @param number the number that the promotion is expected to have
   */
  writeCorrections(number: number): Promise<void>
  /**
   * Works out the rest and stores all corrections. Both generations are aligned, saved and do not change.
   * @param number the number of the promotion, which is about to be written to the log
   */
  correct(
    live: GenerationVersion,
    changed: WrittenKeys | undefined,
    number: number,
  ): Promise<StoredCorrections>
  /** Releases the snapshots, and drops corrections that were worked out ahead. */
  release(): Promise<void>
  /** Ends it: it applies nothing more, and rejects all pending calls with this reason. */
  end(reason: HenceError): void
  /** Ends it, saves it and closes it; its state can be opened then. */
  close(reason: HenceError): Promise<void>
  /** Resolves when its process, if it has one, has exited after `close`. */
  readonly gone: Promise<void>
}

export interface Alignment {
  /** By partition, the offset behind the last record applied. */
  readonly positions: readonly number[]
  /** Whether all its messages have been applied. */
  readonly isDrained: boolean
}

/** Corrections that are stored in files; see `correction-files.ts`. */
export interface StoredCorrections {
  readonly count: number
  /** So many, the first, are in the log before requests go on. */
  readonly first: number
  /** SHA-256 of the index file, which has the hashes of all portions. */
  readonly hash: string
  readonly counts: CorrectionCounts
  /** How many effects only the candidate asks for. */
  readonly effectsNew: number
}

export interface CandidateOptions {
  /** Its number, followed by its ancestors; see `lineageOf`. */
  readonly lineage: readonly number[]
  /** The version of its code at the beginning of the log. */
  readonly base: string
  /** Derive from the beginning; state from an earlier run is deleted. */
  readonly anew: boolean
  readonly share: number
  readonly paused: boolean
}
