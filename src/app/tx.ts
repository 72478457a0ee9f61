import type { Constraint } from './constraint.ts'
import type { Effect } from './effect.ts'
import type { DataOf, Event } from './event.ts'
import type { Frozen } from './schema.ts'
import type { IndexOf, PartsOf, Query, Row, Table, ValueOf } from './table.ts'

/**
 * Gives a derivation access to the rows under its partition key and to the record that it derives from.
 * Deriving the record again gives the same values.
 *
 * All methods throw `HenceError`; an error that the derivation does not catch undoes it, and the outcome
 * is `failed`:
 * - `scope-crossed` for a table of another scope,
 * - `not-json` for a value that JSON does not keep (a `Date`, `NaN`, a `bigint`, a cycle …),
 * - `key-invalid`, `key-too-long`, `query-invalid` for keys and queries,
 * - `unknown-definition` for a table, event, effect or constraint that `app` does not list,
 * - `claim-invalid` for a limit or a number of units that is not a whole number from 0,
 * - `transaction-ended` when it is used after the derivation returned.
 */
export interface Tx<Scope extends string = string> {
  /** The partition key of this derivation. */
  readonly key: string
  /** The id of the request that started the chain; in a compensation, of the request that is compensated. */
  readonly requestId: string
  /** The sender of that request; empty when the host names none. */
  readonly principal: string
  /** Log time of the record, in milliseconds since 1970: the only clock of a derivation. */
  readonly now: number

  /** The row, frozen, or undefined. */
  get<T extends Table<Scope>>(table: T, ...key: PartsOf<T>): Frozen<ValueOf<T>> | undefined
  /** Adds or replaces a row: `tx.put(lines, 3, line)`. The value is copied, without undefined fields. */
  put<T extends Table<Scope>>(
    table: T,
    ...keyThenValue: [...key: PartsOf<T>, value: Frozen<ValueOf<T>>]
  ): void
  /** Removes a row; returns false when there was none. */
  delete<T extends Table<Scope>>(table: T, ...key: PartsOf<T>): boolean
  /** The rows under this partition key that match a query, in order; their keys omit the partition key. */
  scan<T extends Table<Scope>>(table: T, query?: Query<IndexOf<T>>): Row<PartsOf<T>, ValueOf<T>>[]

  /**
   * Emits an event to the partition of its key. Its effect is exactly once: in the same atomic step if that
   * is this partition, otherwise through the log.
   */
  emit<E extends Event>(event: E, data: Frozen<DataOf<E>>, options?: EmitOptions): void

  /**
   * Requests an effect. It is delivered after the record is durable, until its handler succeeds. The handler
   * gets the id that this method returns, which is the same on every replay and try.
   */
  effect<E extends Effect>(effect: E, input: Frozen<EffectInputOf<E>>, options?: EmitOptions): string

  /**
   * Sets a timer of this partition key: the event's reaction runs just before the first record whose log time
   * is `at` or later, with that time as `tx.now`. Scheduling the same event and `key` again moves the timer.
   * @param options.at in milliseconds since 1970; a past time is due at once
   * @param options.key distinguishes several timers of one event; by default there is one
   */
  schedule<E extends Event<Scope>>(
    event: E,
    data: Frozen<DataOf<E>>,
    options: { readonly at: number; readonly key?: string },
  ): void
  /** Cancels a timer; returns false when there is none, for example because it has fired. */
  cancel<E extends Event<Scope>>(event: E, options?: { readonly key?: string }): boolean

  /**
   * A constraint of this scope at this key: its limit without the margin, the units claimed, how many of them
   * exceed the limit with the margin and, if it has a waiting list, the number of claims that wait. After a
   * limit has fallen, `excess` says how much is displaced: its claims give way after the derivation (with
   * `review: 'human'`, once that is decided).
   */
  usage(constraint: Constraint<Scope>): {
    readonly limit: number
    readonly claimed: number
    readonly excess: number
    readonly waiting?: number
  }
  /**
   * Sets the limit at this key, for as long as none is set anew: also if another limit is declared. A limit
   * below the units claimed is a violation, in either mode.
   */
  setLimit(constraint: Constraint<Scope>, limit: number): void
  /** Raises or lowers the set or declared limit at this key, to 0 at the lowest. */
  adjustLimit(constraint: Constraint<Scope>, by: number): void
  /**
   * Settles a constraint at this key, as at a departure: releases the claims that are not confirmed, and sets
   * the margin to 0 from now on. They count no more at once; their holders are notified after the derivation,
   * in several steps if there are many.
   * @param event emitted for each released claim, with the claim as its data
   * @returns the units of the released claims
   */
  settle<E extends Event>(
    constraint: Constraint<Scope>,
    event?: SettledClaim extends DataOf<E> ? E : never,
  ): number
  /**
   * Releases the claims that requests of this partition key hold on a constraint of any scope.
   * @param key only claims on this key of the constraint
   * @param units at most so many units, those of the latest request first, and what waits last; default all
   * @returns the number of claims released, wholly or in part
   */
  release(constraint: Constraint, key?: string, units?: number): number
  /**
   * Confirms the claims that requests of this partition key hold on a constraint: `settle` keeps them, and
   * they give way last.
   * @returns the number of claims confirmed
   */
  confirm(constraint: Constraint, key?: string): number
  /** Whether a request of this partition key, this one for example, waits for a claim on a constraint. */
  waits(constraint: Constraint, key?: string): boolean

  /** A number in [0, 1), seeded by the record. */
  random(): number
  /** A UUID (version 8, RFC 9562), seeded by the record. */
  uuid(): string
}

type EffectInputOf<E extends Effect> = E extends Effect<string, infer I> ? I : never

/** A claim that `settle` released because it was not confirmed: the data of an event. */
export interface SettledClaim {
  readonly constraint: string
  /** The key at which it was judged. */
  readonly judged: string
  readonly requestId: string
  readonly principal: string
  /** The partition key of the request that held the claim. */
  readonly key: string
  readonly units: number
}

export interface EmitOptions {
  /**
   * Identifies this event or effect among those of its type in this derivation, so that it keeps its id when
   * new code emits others before it. The default is its ordinal among them.
   */
  readonly key?: string
}
