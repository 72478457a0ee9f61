import type { Outcome, TableChange } from '../app/index.ts'
import type { EffectState } from '../effect/outbox.ts'
import type { Failure } from './step.ts'

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
  /** Undefined while it is not decided. */
  readonly outcome: Outcome | undefined
  /** The request itself, then what follows from it: events, timers, results of effects, compensations. */
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
}

export type StoryChange = Omit<TableChange, 'token'>
