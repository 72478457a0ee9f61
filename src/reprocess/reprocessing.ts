import type { SubmitOptions } from '../app/service.ts'
import type { DiffSummary } from '../diff/diff-summary.ts'
import type { CodeOf } from '../generation/codes.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { CandidateProgress } from './follower.ts'

export type { ControlFact } from '../log/control-history.ts'

/** The status of the candidate. */
export interface ReprocessStatus extends CandidateProgress {
  readonly generation: number
  /** It was live before, and is kept so that it can be promoted again. */
  readonly wasLive: boolean
  /** How many records the log has. */
  readonly of: number
  /** Estimated time until it has caught up, in milliseconds. */
  readonly leftMs?: number
  /** The hash of the last diff, if there has been one. */
  readonly diff?: string
}

/** A generation, and the version of its code. */
export interface GenerationVersion {
  readonly generation: number
  readonly version: string
}

/**
 * Reprocessing: all derived state is derived again by other code, from the first record of the log, beside
 * the live generation. That second generation is the candidate. It can be compared with the live one, and
 * promoted: then it is live. Its effects are not sent before that. There is one candidate at most: one that
 * is being derived or, after a promotion, the generation that was live before, which goes on following the
 * log so that promoting it again is a rollback.
 */
export interface Reprocessing {
  /**
   * Begins a candidate, or resolves at once if this code is being derived already. It continues in the
   * background, and after a restart. If the data is a directory, it runs in a child
   * process, without rest. Otherwise it shares the event loop with live work, and its default share is 0.5.
   * @param options.share the share of the time that it works, over 0 to 1
   * @throws HenceError `reprocess-exists` (change) if there is another candidate: discard it first;
   *   `reprocess-same-code` (change) for the code that is live, unless `options.again`; `bundle-failed`,
   *   `code-not-kept` (change)
   */
  start(
    code: CodeOf,
    options?: { readonly share?: number | undefined; readonly again?: boolean | undefined },
  ): Promise<ReprocessStatus>
  /** Returns the status of the candidate; undefined if there is none. */
  status(): Promise<ReprocessStatus | undefined>
  /** Stops the candidate until `resume`, across restarts. Throws `reprocess-none` (change). */
  pause(): Promise<ReprocessStatus>
  /** Continues after a pause or a failure. Throws `reprocess-none` (change). */
  resume(): Promise<ReprocessStatus>
  /** Resolves at the end of the log; rejects if it fails, or the signal aborts. Throws `reprocess-none`. */
  caughtUp(signal?: AbortSignal): Promise<ReprocessStatus>
  /**
   * Waits until the candidate has caught up, then compares both generations as they are at one moment.
   * Requests wait only for that moment.
   * @param options.samples how many differences of each group the summary holds; default 5
   * @param options.each called with every difference as a line of JSON, in order; a promise that it returns
   *   is awaited
   * @throws HenceError `reprocess-none` (change); what `caughtUp` throws
   */
  diff(options?: {
    readonly samples?: number | undefined
    readonly each?: ((line: string) => unknown) | undefined
    readonly signal?: AbortSignal | undefined
  }): Promise<Diff>
  /**
   * Makes the candidate live in one moment: no read sees a mixture. Requests wait while the last differences
   * are worked out. Differences become corrections; new effects are sent. A retry with the same request id
   * returns the first promotion.
   * @param approval.diff the hash of the last diff, which was looked at
   * @throws HenceError `diff-unknown` (change) for any other hash; `reprocess-none` (change);
   *   `request-id-reused` (change)
   */
  promote(
    approval: { readonly diff: string; readonly note?: string | undefined },
    options: SubmitOptions,
  ): Promise<Promotion>
  /** Deletes the candidate. Throws `reprocess-none` (change). */
  discard(): Promise<void>
  /** All promotions and changes of code in this log, oldest first. */
  history(): Promise<readonly ControlFact[]>
}

/** The differences between the live generation (`before`) and the candidate (`after`). */
export interface Diff extends DiffSummary {
  readonly before: GenerationVersion
  readonly after: GenerationVersion
  /** By partition, the offset behind the last record that both had applied. */
  readonly positions: readonly number[]
}

export interface Promotion {
  readonly generation: number
  readonly version: string
  /** The generation that was live before; it is kept for a rollback until it is discarded. */
  readonly before: number
  /** How many corrections were recorded, by kind. */
  readonly corrections: { readonly outcome: number; readonly effect: number; readonly row: number }
  /** How many effects only the new code emits; they are sent now. */
  readonly effectsNew: number
  /** Whether it was done before, under the same request id. */
  readonly replayed: boolean
}
