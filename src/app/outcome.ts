import type { Json } from './schema.ts'

/** How a request was decided; every retry gets the same outcome. */
export type Outcome<Value = Json, Reason extends string = string> =
  | { readonly status: 'accepted'; readonly value: Value }
  | { readonly status: 'rejected'; readonly reason: Reason; readonly details?: Json }
  | { readonly status: 'failed'; readonly code: string; readonly message: string }

// From the registry that all realms share, so that the host recognises a rejection made in the sandbox.
const rejection: unique symbol = Symbol.for('hence.rejection') as never

/** Returned by a derivation in place of a value: the request is rejected and its changes are undone. */
export interface Rejection<Reason extends string = string> {
  readonly [rejection]: true
  readonly reason: Reason
  readonly details?: Json
}

/**
 * Rejects a request by a business rule: `return reject('seat-taken')`. Everything the derivation changed or
 * emitted is undone, and the outcome, also of every retry, is `rejected` with this reason.
 *
 * @param reason stable, for programs to match on, for example `seat-taken`
 * @param details JSON for the caller
 */
export function reject<const Reason extends string>(reason: Reason, details?: Json): Rejection<Reason> {
  return details === undefined ? { [rejection]: true, reason } : { [rejection]: true, reason, details }
}

export function isRejection(value: unknown): value is Rejection {
  return typeof value === 'object' && value !== null && rejection in value
}
