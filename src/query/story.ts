import type { Outcome, TableChange } from '../app/index.ts'
import type { Failure } from '../derivation/step-result.ts'
import type { EffectState } from '../effect/outbox.ts'

/** All that became of one request. */
export interface Story {
  readonly requestId: string
  readonly principal: string
  readonly type: string
  /** The input as it was sent. */
  readonly input: unknown
  /** Where the request stands in the log. */
  readonly token: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  /** What was told, and still is; undefined while it is not decided. */
  readonly outcome: Outcome | undefined
  /** What the code that is live makes of it, where that differs from what was told. */
  readonly corrected?: Outcome
  /** The request itself, then what follows from it: events, timers, results of effects, compensations, corrections. */
  readonly steps: readonly StoryStep[]
}

/** One derivation of a story. */
export interface StoryStep {
  /** The record that it was derived with. */
  readonly token: string
  /** Log time of that record, in milliseconds since 1970. */
  readonly at: number
  readonly kind: 'request' | 'event' | 'timer' | 'result' | 'correction'
  /** Of the request or event; messages of Hence's own, such as claims, begin with `hence:`. */
  readonly type: string
  /** The partition key that it was derived under. */
  readonly key: string
  readonly changes: readonly StoryChange[]
  /** What it told other keys; each has a step of its own once it has been applied. */
  readonly events: readonly { readonly type: string; readonly key: string; readonly data: unknown }[]
  /** The effects that it asked for, as they stand now. */
  readonly effects: readonly EffectState[]
  /** It threw, and nothing of it stands. */
  readonly failure: Failure | undefined
  /** Of a correction: what was corrected, and who had approved that. */
  readonly correction?: StoryCorrection
}

/** What a promotion changed of a request: its outcome, or an effect that it had asked for. */
export type StoryCorrection = { readonly promotion: StoryPromotion } & (
  | {
      readonly kind: 'outcome'
      /** What the code that was live before made of it, and what this one does. */
      readonly before: Outcome
      readonly after: Outcome
    }
  | {
      readonly kind: 'effect'
      readonly effect: string
      readonly before: { readonly input: unknown; readonly state: EffectState['state'] }
      /** Undefined when it is asked for no longer. */
      readonly after: { readonly input: unknown } | undefined
    }
)

/** The promotion of a generation; see `Reprocessing.promote`. */
export interface StoryPromotion {
  /** Its number among the control records of the log. */
  readonly number: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly generation: number
  /** The version of the code that became live. */
  readonly version: string
  /** Who approved it, under which id, and the hash of the diff that was approved. */
  readonly principal: string
  readonly requestId: string
  readonly diff: string
  readonly note?: string
}

export type StoryChange = Omit<TableChange, 'token'>
