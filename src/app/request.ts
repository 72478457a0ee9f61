import type { Claim } from './constraint.ts'
import type { Rejection } from './outcome.ts'
import type { Schema } from './schema.ts'
import type { Tx } from './tx.ts'
import type { Versioned } from './version.ts'

/** A type of request that clients may send, and the derivation that decides it. */
export interface Request<
  Scope extends string = string,
  Name extends string = string,
  // biome-ignore-start lint/suspicious/noExplicitAny: a request of any kind is what "any request" means here.
  Input = any,
  Output = any,
  Result = any,
  Claimed extends string = string,
  // biome-ignore-end lint/suspicious/noExplicitAny: as above.
> extends Versioned {
  readonly kind: 'request'
  readonly scope: Scope
  readonly name: Name
  readonly input: Schema<Input, Output>
  key(input: Output): string
  /** The claims that the request holds once it is accepted; a function of the input alone. */
  claims?(input: Output): readonly Claim<Claimed>[]
  derive(tx: Tx<Scope>, input: Output): Result
  /**
   * Runs under the request's partition key when one of its claims gives way, to undo and apologise.
   * Its other claims are released just before.
   */
  compensate?(tx: Tx<Scope>, input: Output, cause: ViolationCause): void
  /** Runs there when the accepted request begins to wait for one of its claims. */
  queued?(tx: Tx<Scope>, input: Output, cause: ViolationCause): void
  /** Runs there when it gets a claim that it waited for. */
  served?(tx: Tx<Scope>, input: Output, cause: ServedCause): void
}

/** Why a request is compensated, or waits. */
export interface ViolationCause {
  /** The id of the violation; null if it is queued at once, or did not confirm in time. */
  readonly violation: string | null
  readonly constraint: string
  /** The partition key under which the constraint is judged. */
  readonly key: string
}

/** The claim that a request waited for. */
export interface ServedCause {
  readonly constraint: string
  readonly key: string
  /** When the claim is lost unless it is confirmed, as log time; null if it need not be. */
  readonly confirmBy: number | null
}

/** The value of an accepted request; null where its derivation returns nothing. */
export type AcceptedOf<Result> =
  Exclude<Result, Rejection> extends infer V ? (undefined extends V ? null : V) : never

/** The reasons for which a derivation rejects. */
export type ReasonOf<Result> = Result extends Rejection<infer R> ? R : never

/** The names of the constraints that a request claims. */
export type ClaimedOf<R> =
  R extends Request<string, string, infer _I, infer _O, infer _R, infer C> ? C : never
