import type { SubmitOptions } from '../app/service.ts'
import type { DiffSummary } from '../diff/diff-summary.ts'
import type { CodeOf } from '../generation/codes.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { Progress } from './follower.ts'

export type { ControlFact } from '../log/control-history.ts'

/** How far a generation is that is not live. */
export interface ReprocessStatus extends Progress {
  readonly generation: number
  /** It was live before, and is kept for the way back. */
  readonly wasLive: boolean
  /** How many records the log has. */
  readonly of: number
  /** How long it will still take, in milliseconds, as it looks now. */
  readonly leftMs?: number
  /** The hash of the last diff, if one was made since it began. */
  readonly diff?: string
}

/**
 * Deriving everything again with other code, beside what is live: a second generation of all derived state, from the
 * first record on. Nothing that it asks for is sent before it is promoted. There is one besides the live one at
 * most: one that is being derived, or after a promotion the one that was live before, which goes on following
 * the log so that promoting it is the way back.
 */
export interface Reprocessing {
  /**
   * Begins, or resolves at once when this code is being derived already; it goes on in the background, and after a restart.
   * It has a process of its own where the data is a directory and the app a module. Elsewhere it shares the turns of the event loop with live
   * work, and then it takes a half of them when it was told nothing else, and up to 0.8 while it would not catch up.
   * @param options.share for how much of the time it works, over 0 to 1; default all of it
   * @throws HenceError `reprocess-exists` (change) when there is another generation: discard it first;
   *   `reprocess-same-code` (change) only for code that is live, unless `options.again`; `bundle-failed`, `code-not-kept` (change)
   */
  start(
    code: CodeOf,
    options?: { readonly share?: number; readonly again?: boolean },
  ): Promise<ReprocessStatus>
  /** How far it is; undefined when there is one generation only. */
  status(): Promise<ReprocessStatus | undefined>
  /** Stops until `resume`; a restart changes nothing of it. Throws `reprocess-none` (change). */
  pause(): Promise<ReprocessStatus>
  resume(): Promise<ReprocessStatus>
  /** Resolves when it has reached the end of the log; rejects when it failed, or the signal aborts. Throws `reprocess-none`. */
  caughtUp(signal?: AbortSignal): Promise<ReprocessStatus>
  /**
   * Compares the other generation with the live one, at one moment for both, which is when it is caught up; requests go on meanwhile.
   * @param options.samples how many differences of each kind the summary holds; default 5
   * @param options.each is given every difference as a line of JSON, in their order; may give a promise to wait for
   * @throws HenceError `reprocess-none` (change); what `caughtUp` throws
   */
  diff(options?: {
    readonly samples?: number
    readonly each?: (line: string) => unknown
    readonly signal?: AbortSignal
  }): Promise<Diff>
  /**
   * Makes the other generation live, in one moment: requests wait while the last differences are worked out, and no read sees a
   * mixture. Differences become corrections; new effects are sent. However often it is sent with one id, it is done once.
   * @param approval.diff the hash of the diff that was looked at; it must be the last one that was made
   * @throws HenceError `diff-unknown` (change) for another hash than that of the last diff of this generation; `reprocess-none` (change); `request-id-reused` (change)
   */
  promote(
    approval: { readonly diff: string; readonly note?: string },
    options: SubmitOptions,
  ): Promise<Promotion>
  /** Gives up the other generation: it cannot be promoted any more. Throws `reprocess-none` (change). */
  discard(): Promise<void>
  /** All promotions and changes of code of this log, the oldest first. */
  history(): Promise<readonly ControlFact[]>
}

/** A diff, and what was compared. */
export interface Diff extends DiffSummary {
  readonly before: { readonly generation: number; readonly version: string }
  readonly after: { readonly generation: number; readonly version: string }
  /** The offset of each partition that both were derived up to. */
  readonly positions: readonly number[]
}

export interface Promotion {
  readonly generation: number
  readonly version: string
  /** The generation that was live before; it is kept for the way back until it is discarded. */
  readonly before: number
  /** How many corrections were recorded, by kind. */
  readonly corrections: { readonly outcome: number; readonly effect: number; readonly row: number }
  /** Effects that are new, and are sent now. */
  readonly effectsNew: number
  /** It was done before, under the same id. */
  readonly replayed: boolean
}
