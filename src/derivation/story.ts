import type { Outcome, TableChange } from '../app/index.ts'
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
  /** The request itself, then the events that follow from it, each in its own partition. */
  readonly steps: readonly StoryStep[]
}

/** What one record of a story did. */
export interface StoryStep {
  readonly token: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly kind: 'request' | 'event'
  readonly type: string
  /** The partition key that it was derived under. */
  readonly key: string
  readonly changes: readonly StoryChange[]
  /** What it told other keys. Those in the same partition were applied in this step, the others have their own. */
  readonly events: readonly { readonly type: string; readonly key: string; readonly data: unknown }[]
  readonly failures: readonly Failure[]
}

export type StoryChange = Omit<TableChange, 'token'>
