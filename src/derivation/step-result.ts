import type { Outcome } from '../app/index.ts'
import type { RequestRecord, ResultRecord } from '../log/record.ts'
import type { StateChange } from '../state/state.ts'
import type { Chain, Emission } from './chain.ts'

/** The result of deriving one record of the log. */
export interface StepResult {
  /** In order: timers that the record's time set off, the record, and the events that stayed in its partition. */
  derivations: readonly Derivation[]
  /** Events for other partitions, in the order of emission. */
  outgoing: readonly Emission[]
  /** Requests that were decided or, without an outcome, wait for their claims. */
  decisions: readonly Decision[]
  /** Messages that were parked because their keys wait, and those that were released. */
  parked: readonly { readonly chain: Chain; readonly isReleased: boolean }[]
  /** Records that by this code belong to another partition; they were not derived. */
  moved: readonly { readonly record: RequestRecord | ResultRecord; readonly key: string }[]
}

/** One derivation under one partition key. */
export interface Derivation {
  readonly kind: 'request' | 'event' | 'timer' | 'result' | 'correction'
  readonly type: string
  /** The partition key; empty if the input of a request gives none. */
  key: string
  chain: Chain
  /** Its `tx.now`, in milliseconds since 1970: the log time of its message, which may have been parked. */
  at: number
  /** The changes of rows; one entry for each key, however often it changed. */
  changes: readonly StateChange[]
  emissions: readonly Emission[]
  effects: readonly string[]
  /** Set if the derivation threw; everything it did was then undone. */
  failure: Failure | undefined
  /** The violation because of which the claim of its request waits. */
  violation?: string
}

export interface Decision {
  readonly chain: Chain
  /** Undefined while the request waits for its claims. */
  readonly outcome: Outcome | undefined
}

export interface Failure {
  readonly code: string
  readonly message: string
}
