import type { Rejection } from './outcome.ts'
import type { Schema } from './schema.ts'
import type { Tx } from './tx.ts'

/** A kind of wish that clients may send, and the derivation that decides it. */
export interface Request<
  Scope extends string = string,
  Name extends string = string,
  // biome-ignore-start lint/suspicious/noExplicitAny: a request of any kind is what "any request" means here.
  Input = any,
  Output = any,
  Result = any,
  // biome-ignore-end lint/suspicious/noExplicitAny: as above.
> {
  readonly kind: 'request'
  readonly scope: Scope
  readonly name: Name
  readonly input: Schema<Input, Output>
  key(input: Output): string
  derive(tx: Tx<Scope>, input: Output): Result
}

/** What an accepted request of this kind gives; null where its derivation returns nothing. */
export type AcceptedOf<Result> =
  Exclude<Result, Rejection> extends infer V ? (undefined extends V ? null : V) : never

/** The reasons for which requests of this kind may be rejected. */
export type ReasonOf<Result> = Result extends Rejection<infer R> ? R : never
