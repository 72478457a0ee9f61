import type { Outcome, TableChange } from '../app/index.ts'
import type { Failure } from '../derivation/step-result.ts'
import type { EffectState } from '../effect/outbox.ts'
import type { Previewed } from '../processor/preview.ts'

/** A request and everything that followed from it. */
export interface Story {
  readonly requestId: string
  readonly principal: string
  readonly type: string
  /** The input as it was sent. */
  readonly input: unknown
  /** The position of the request in the log, as `partition:offset`. */
  readonly token: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  /** The first outcome, which every retry gets; undefined while the request is not decided. */
  readonly outcome: Outcome | undefined
  /** The outcome by the live code, if it differs from the first one. */
  readonly corrected?: Outcome
  /** The id of the request, effect or violation that it replies to. */
  readonly inReplyTo?: string
  /** The first hundred requests that replied to it, to one of its effects or to one of its violations. */
  readonly replies: readonly StoryReply[]
  /** The request, then events, timers, results of effects, compensations and corrections that follow from it. */
  readonly steps: readonly StoryStep[]
}

/** A request that replied to another one, or to something that followed from it. */
export interface StoryReply {
  /** The id that it named. */
  readonly inReplyTo: string
  readonly requestId: string
  readonly principal: string
  readonly type: string
  readonly token: string
}

/** One derivation of a story. */
export interface StoryStep {
  /** The position of the record that it was derived with. */
  readonly token: string
  /** Log time of that record, in milliseconds since 1970. */
  readonly at: number
  readonly kind: 'request' | 'event' | 'timer' | 'result' | 'correction'
  /** The type of the request or event; types of system messages, for example claims, begin with `hence:`. */
  readonly type: string
  /** Its partition key; left out if it failed, or was ruled out by hand, before its key was known. */
  readonly key?: string
  readonly changes: readonly StoryChange[]
  /** The events that it emitted; each becomes a step once it has been applied. */
  readonly events: readonly { readonly type: string; readonly key: string; readonly data: unknown }[]
  /** The effects that it asked for, in their present state. */
  readonly effects: readonly EffectState[]
  /** Set if it threw; everything it did was then undone. */
  readonly failure: Failure | undefined
  /** For a correction: the difference, and who approved it. */
  readonly correction?: StoryCorrection
}

/** The consequences that a request would have; its steps are at the log time of the preview. */
export type Preview = Previewed<Omit<StoryStep, 'token' | 'correction'>>

/** A difference that a promotion made to a request: in its outcome, or in an effect that it asked for. */
export type StoryCorrection = { readonly promotion: StoryPromotion } & (
  | {
      readonly kind: 'outcome'
      /** The outcome by the code that was live before, and by the promoted code. */
      readonly before: Outcome
      readonly after: Outcome
    }
  | {
      readonly kind: 'effect'
      readonly effect: string
      readonly before: { readonly input: unknown; readonly state: EffectState['state'] }
      /** Undefined if the promoted code does not ask for it. */
      readonly after: { readonly input: unknown } | undefined
    }
)

/** The promotion of a generation; see `Reprocessing.promote`. */
export interface StoryPromotion {
  /** The number of its control record. */
  readonly number: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly generation: number
  /** The version of the code that became live. */
  readonly version: string
  /** Who approved it, the id of that request, and the hash of the approved diff. */
  readonly principal: string
  readonly requestId: string
  readonly diff: string
  readonly note?: string
}

export type StoryChange = Omit<TableChange, 'token'>
