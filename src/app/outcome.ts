import type { Json } from './schema.ts'

/** What became of a request; every retry of it gets the same. */
export type Outcome<Value = Json, Reason extends string = string> =
  | { readonly status: 'accepted'; readonly value: Value }
  | { readonly status: 'rejected'; readonly reason: Reason; readonly details?: Json }
  | { readonly status: 'failed'; readonly code: string; readonly message: string }

// Taken from the registry that all realms share: a rejection made in a sandbox is known outside it.
const rejection: unique symbol = Symbol.for('hence.rejection') as never

/** Returned by a derivation instead of a value: the request is refused, and nothing that it changed remains. */
export interface Rejection<Reason extends string = string> {
  readonly [rejection]: true
  readonly reason: Reason
  readonly details?: Json
}

/**
 * Refuses a request by a business rule: `return reject('seat-taken')`. All that the derivation changed or
 * emitted before is undone, and the outcome is `rejected` with this reason, on every retry too.
 *
 * @param reason a stable word for programs to match on, in the form `seat-taken`
 * @param details JSON for the caller
 */
export function reject<const Reason extends string>(reason: Reason, details?: Json): Rejection<Reason> {
  return details === undefined ? { [rejection]: true, reason } : { [rejection]: true, reason, details }
}

export function isRejection(value: unknown): value is Rejection {
  return typeof value === 'object' && value !== null && rejection in value
}
