import type { Constraint } from './constraint.ts'
import type { Effect } from './effect.ts'
import type { DataOf, Event } from './event.ts'
import type { Frozen } from './schema.ts'
import type { IndexOf, PartsOf, Query, Row, Table, ValueOf } from './table.ts'

/**
 * What a derivation sees of the world: the rows under its own partition key, and facts of the record it
 * derives from. Everything here is the same whenever the record is derived again.
 *
 * All methods throw `HenceError`; an error that the derivation does not catch undoes it, and its outcome
 * is `failed`:
 * - `scope-crossed` for a table of another scope,
 * - `not-json` for a value that JSON does not keep (a `Date`, `NaN`, a `bigint`, a cycle …),
 * - `key-invalid`, `key-too-long`, `query-invalid` for keys and queries,
 * - `unknown-definition` for a table, event, effect or constraint that is not listed in `app`,
 * - `claim-invalid` for a limit or a number of units that makes no sense,
 * - `transaction-ended` when it is used after the derivation returned.
 */
export interface Tx<Scope extends string = string> {
  /** The partition key that this derivation is bound to. */
  readonly key: string
  /**
   * The id of the request at the beginning of the chain; in a reaction and a timer too. In a compensation: of
   * the request that is compensated.
   */
  readonly requestId: string
  /** Who sent that request; the empty string when the host names nobody. */
  readonly principal: string
  /** Log time of the record, in milliseconds since 1970: the only clock of a derivation. */
  readonly now: number

  /** The row, frozen, or undefined. */
  get<T extends Table<Scope>>(table: T, ...key: PartsOf<T>): Frozen<ValueOf<T>> | undefined
  /** Adds or replaces a row: `tx.put(lines, 3, line)`. The value is copied; fields that are undefined are left out. */
  put<T extends Table<Scope>>(
    table: T,
    ...keyThenValue: [...key: PartsOf<T>, value: Frozen<ValueOf<T>>]
  ): void
  /** Removes a row; false when there was none. */
  delete<T extends Table<Scope>>(table: T, ...key: PartsOf<T>): boolean
  /** The rows under this partition key that a query names, in order; keys without the partition key. */
  scan<T extends Table<Scope>>(table: T, query?: Query<IndexOf<T>>): Row<PartsOf<T>, ValueOf<T>>[]

  /**
   * Emits an event to the partition of its key. It is applied exactly once in effect: in the same atomic
   * step when that is this partition, else by way of the log.
   */
  emit<E extends Event>(event: E, data: Frozen<DataOf<E>>, options?: EmitOptions): void

  /**
   * Asks for something to be done to the outside world. It is done, until acknowledged, after the record is
   * durable; its handler gets the id that this returns, the same on every replay and for every try.
   */
  effect<E extends Effect>(effect: E, input: Frozen<EffectInputOf<E>>, options?: EmitOptions): string

  /**
   * Sets a timer of this partition key: the event's reaction runs just before the first record whose log time is not
   * earlier than `at`, with `tx.now` as that time. An event that is scheduled again under the same `key` moves.
   * @param options.at in milliseconds since 1970; one in the past is due at once
   * @param options.key tells timers of one event apart; default: there is one
   */
  schedule<E extends Event<Scope>>(
    event: E,
    data: Frozen<DataOf<E>>,
    options: { readonly at: number; readonly key?: string },
  ): void
  /** Takes a timer back; false when there is none, such as when it went off. */
  cancel<E extends Event<Scope>>(event: E, options?: { readonly key?: string }): boolean

  /** What is claimed of a constraint of this scope at this key, and its limit without the margin. */
  usage(constraint: Constraint<Scope>): { readonly limit: number; readonly claimed: number }
  /** Sets the limit at this key. One below what is claimed is a violation, in either mode. */
  setLimit(constraint: Constraint<Scope>, limit: number): void
  /** Raises or lowers the limit at this key; it does not fall below 0. */
  adjustLimit(constraint: Constraint<Scope>, by: number): void
  /**
   * Settles a constraint at this key, as at a departure: claims that were not confirmed are released, and from now on
   * the margin is 0.
   * @returns the claims that were released
   */
  settle(constraint: Constraint<Scope>): readonly SettledClaim[]
  /**
   * Gives back what requests of this partition key hold of a constraint of any scope.
   * @param key only claims on this key of the constraint
   * @returns how many claims
   */
  release(constraint: Constraint, key?: string): number
  /**
   * Confirms what requests of this partition key hold of a constraint: `settle` keeps it, and it gives way last.
   * @returns how many claims
   */
  confirm(constraint: Constraint, key?: string): number

  /** A number in [0, 1), seeded by the record. */
  random(): number
  /** A UUID (version 8, RFC 9562), seeded by the record. */
  uuid(): string
}

export type EffectInputOf<E extends Effect> = E extends Effect<string, infer I> ? I : never

/** A claim that was released because nobody confirmed it. */
export interface SettledClaim {
  readonly requestId: string
  readonly principal: string
  /** The partition key of the request that held it. */
  readonly key: string
  readonly units: number
}

export interface EmitOptions {
  /**
   * Names this event or effect among those of its type that this derivation emits, so that it keeps its identity when
   * new code emits others before it. Without it, its place among them counts.
   */
  readonly key?: string
}
