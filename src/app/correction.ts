import type { Outcome } from './outcome.ts'
import type { KeyPart } from './table.ts'

/**
 * A difference that promoting new code made, for the app to compensate:
 * `scope.correct((tx, correction) => …)`. It arrives under the partition key that it concerns, after the new
 * generation is live.
 */
export type Correction = OutcomeCorrection | EffectCorrection | RowCorrection

/** The new code decides a request of this scope differently. Its sender got `before`, and retries still get it. */
export interface OutcomeCorrection {
  readonly kind: 'outcome'
  readonly requestId: string
  readonly principal: string
  /** The name of the request. */
  readonly type: string
  /** The input as it was sent. */
  readonly input: unknown
  readonly before: Outcome
  readonly after: Outcome
}

/**
 * The new code asks for an effect with another input, or no longer asks for it. A delivered effect stays
 * delivered, and its id is never reused for other content. Effects that this scope's `correct` asks for get
 * new ids; without `correct`, Hence sends `after` under a new id.
 */
export interface EffectCorrection {
  readonly kind: 'effect'
  readonly id: string
  /** The name of the effect. */
  readonly type: string
  readonly before: {
    readonly input: unknown
    /** `pending`: it may or may not have been delivered. */
    readonly state: 'pending' | 'done' | 'dead'
  }
  /** Undefined when the new code does not ask for the effect. */
  readonly after: { readonly input: unknown } | undefined
}

/** A row of a table of this scope changed, is new (no `before`), or is gone (no `after`). */
export interface RowCorrection {
  readonly kind: 'row'
  /** The name of the table. */
  readonly table: string
  /** The parts of its key after the partition key. */
  readonly key: readonly KeyPart[]
  readonly before?: unknown
  readonly after?: unknown
}

/** Stands for corrections as the message that `scope.correct` reacts to. */
export interface CorrectionMessage {
  readonly kind: 'corrections'
}
