import type { Frozen, Schema } from './schema.ts'

/** A part of a row's key. */
export type KeyPart = string | number
export type KeyKind = 'string' | 'number'
/** A part of a key or of an index, as queries name it. */
export type QueryPart = KeyPart | boolean

/** The types of key parts by their kinds: `['string', 'number']` → `[string, number]`. */
type KeyParts<P extends readonly KeyKind[]> = {
  -readonly [I in keyof P]: P[I] extends 'string' ? string : number
}

/** A derived, keyed table. Every row belongs to a partition key; with further key parts, many rows may. */
export interface Table<
  Scope extends string = string,
  Name extends string = string,
  // biome-ignore lint/suspicious/noExplicitAny: a table of any value is what "any table" means here.
  Value = any,
  P extends readonly KeyKind[] = readonly KeyKind[],
  Index extends string = string,
> {
  readonly kind: 'table'
  readonly scope: Scope
  readonly name: Name
  readonly value: Schema<unknown, Value>
  /** The kinds of the key parts after the partition key. */
  readonly parts: P
  /** Index name → indexed fields, in order. */
  readonly indexes: { readonly [I in Index]: readonly string[] }
  /** Decides who may read rows over HTTP without the permission `read`; without a rule, nobody may. */
  // biome-ignore lint/suspicious/noExplicitAny: a rule takes rows, and would keep a table from being "any table".
  readonly read: ReadRule<any> | undefined
}

/** A reader; `id` is their principal. */
export interface Who {
  readonly id: string
}

/**
 * The rows of a table that a reader may see. Rules must not change anything.
 *
 * - `'everybody'`: all rows, for every caller.
 * - `{ index, equals }`: the rows whose first field of that index equals a value of the reader's; without
 *   `index`, the rows under the partition key that equals it. Scans and watches read only that range, so
 *   nothing about other rows can be learned from them, not even their number.
 * - A function of the row: serves reads of single keys only, because a scan would have to walk hidden rows.
 */
export type ReadRule<Value, Index extends string = string> =
  | 'everybody'
  | { readonly index?: Index; readonly equals: (who: Who) => QueryPart | undefined }
  | ((who: Who, row: Frozen<Value>, key: readonly [partitionKey: string, ...parts: KeyPart[]]) => boolean)

/** The definition of a table or a view. */
export interface TableDefinition<
  V,
  P extends readonly KeyKind[],
  I extends Readonly<Record<string, readonly IndexableField<V>[]>>,
> {
  readonly value: Schema<unknown, V>
  readonly key?: P
  readonly indexes?: I
  readonly read?: ReadRule<V, NoInfer<keyof I & string>>
}

export type ValueOf<T extends Table> = T extends Table<string, string, infer V> ? V : never
export type PartsOf<T extends Table> = T extends Table<string, string, unknown, infer P> ? KeyParts<P> : never
export type IndexOf<T extends Table> =
  T extends Table<string, string, unknown, readonly KeyKind[], infer I> ? I : never

/** Fields that an index can hold: strings, numbers, booleans. A row that lacks a field is not in the index. */
export type IndexableField<V> = {
  [F in keyof V]-?: NonNullable<V[F]> extends string | number | boolean ? F : never
}[keyof V] &
  string

/**
 * Which rows a scan returns, and in which order. Without `index`, rows are ordered by key (strings by their
 * UTF-8 bytes); with it, by the indexed fields, then by key.
 */
export interface Query<Index extends string = string> {
  readonly index?: Index | undefined
  /** Only rows whose key (or indexed fields, then key) starts with these parts. */
  readonly prefix?: readonly QueryPart[] | undefined
  /** Lower bound, inclusive: the parts after the prefix. */
  readonly from?: readonly QueryPart[] | undefined
  /** Upper bound, exclusive: the parts after the prefix. */
  readonly to?: readonly QueryPart[] | undefined
  readonly reverse?: boolean | undefined
  readonly limit?: number | undefined
}

/** The rows of a table as a fold reaches them. */
export interface FoldedRows<T extends Table, Key extends readonly KeyPart[]> {
  /** The row, frozen, or undefined. */
  get(...key: Key): Frozen<ValueOf<T>> | undefined
  /** Adds or replaces a row: `rows.put('2026-11-29', { count: 1 })`. */
  put(...keyThenValue: [...key: Key, value: Frozen<ValueOf<T>>]): void
  /** Removes a row; returns false when there was none. */
  delete(...key: Key): boolean
  scan(query?: Query<IndexOf<T>>): Row<Key, ValueOf<T>>[]
}

/** A row with its key. */
export interface Row<Key extends readonly KeyPart[] = readonly KeyPart[], Value = unknown> {
  readonly key: Key
  readonly value: Frozen<Value>
}
