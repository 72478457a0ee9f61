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
 * - `unknown-definition` for a table or event that is not listed in `app`,
 * - `transaction-ended` when it is used after the derivation returned.
 */
export interface Tx<Scope extends string = string> {
  /** The partition key that this derivation is bound to. */
  readonly key: string
  /** The id of the request at the beginning of the chain; in a reaction too. */
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

  /** A number in [0, 1), seeded by the record. */
  random(): number
  /** A UUID (version 8, RFC 9562), seeded by the record. */
  uuid(): string
}

export interface EmitOptions {
  /**
   * Names this event among those of its type that this derivation emits, so that it keeps its identity when
   * new code emits others before it. Without it, its place among them counts.
   */
  readonly key?: string
}
