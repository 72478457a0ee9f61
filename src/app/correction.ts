import type { Outcome } from './outcome.ts'
import type { KeyPart } from './table.ts'

/**
 * What a promotion of other code changed, for the app to make good: `scope.correct((tx, correction) => …)`. It arrives under the
 * partition key that it concerns, after all that the new code derived is live.
 */
export type Correction = OutcomeCorrection | EffectCorrection | RowCorrection

/** A request of this scope would have been decided otherwise. Whoever sent it was told `before`, and still is. */
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
 * An effect that was asked for would have been another one, or none. What was sent stays sent: under its id goes nothing else.
 * What this scope's `correct` asks for instead has an id of its own; a scope without one sends `after`, under
 * a new id.
 */
export interface EffectCorrection {
  readonly kind: 'effect'
  readonly id: string
  /** The name of the effect. */
  readonly type: string
  readonly before: {
    readonly input: unknown
    /** `pending`: it is not known whether it was done. */
    readonly state: 'pending' | 'done' | 'dead'
  }
  /** Undefined when the code asks for it no longer. */
  readonly after: { readonly input: unknown } | undefined
}

/** A row of a table of this scope is another one, there anew (no `before`), or gone (no `after`). */
export interface RowCorrection {
  readonly kind: 'row'
  /** The name of the table. */
  readonly table: string
  /** The parts of its key after the partition key. */
  readonly key: readonly KeyPart[]
  readonly before?: unknown
  readonly after?: unknown
}

/** Carries the type of what `scope.correct` reacts to. */
export interface CorrectionMessage {
  readonly kind: 'corrections'
}
