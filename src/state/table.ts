import type { KeyKind, KeyPart } from '../app/table.ts'
import { changeError, type HenceError } from '../failure.ts'
import type { Codec, Collection } from './cells.ts'
import {
  checkKeyLength,
  decodeKey,
  encodeIndexValue,
  encodeKey,
  encodePart,
  endOfPrefix,
  type IndexValue,
  skipIndexValue,
} from './keys.ts'
import type { State } from './state.ts'
import type { KeyRange } from './store.ts'

/** The part of a table's definition that determines how it is stored. */
export interface TableShape {
  readonly name: string
  /** The kinds of the key parts after the partition key. */
  readonly parts: readonly KeyKind[]
  /** Index name → indexed fields, in order. */
  readonly indexes: Readonly<Record<string, readonly string[]>>
  /** Whether its indexes serve scans within a partition key alone. */
  readonly isScoped?: true
  /** Whether its rows are seldom read again: then they are not cached, and large ones are compressed. */
  readonly isCold?: true
  /** How its rows are stored; default JSON. */
  readonly text?: Codec<unknown>
  /** About how many bytes of memory a row takes; without it all of the row is looked at. */
  readonly rowBytes?: (row: unknown) => number
}

/** A row with the parts of its key, the partition key first. */
export interface TableRow {
  readonly key: KeyPart[]
  readonly value: unknown
}

/** Which rows a scan returns, and in which order; see the public `Query` for its members. */
export interface TableQuery {
  readonly index?: string | undefined
  readonly prefix?: readonly IndexValue[] | undefined
  readonly from?: readonly IndexValue[] | undefined
  readonly to?: readonly IndexValue[] | undefined
  readonly reverse?: boolean | undefined
  readonly limit?: number | undefined
}

/**
 * The names of the collections of some tables, for opening the store.
 *
 *   t:TABLE         partition key, parts                  → row
 *   i:TABLE:INDEX   indexed values, partition key, parts  → nothing
 *   s:TABLE:INDEX   partition key, indexed values, parts  → nothing
 *
 * `s:` serves scans within a partition key, and exists only for tables with many rows per partition key; `i:`
 * is missing where all scans are such. A row in which an indexed field is missing or null is not in that
 * index.
 */
export function collectionsOf(shapes: Iterable<TableShape>): string[] {
  const names: string[] = []
  for (const { name, parts, indexes, isScoped } of shapes) {
    names.push(`t:${name}`)
    for (const index of Object.keys(indexes)) {
      if (!isScoped) names.push(`i:${name}:${index}`)
      if (parts.length > 0) names.push(`s:${name}:${index}`)
    }
  }
  return names
}

/** A row as it is stored. */
export function storedRow({ text }: Pick<TableShape, 'text'>, stored: string): unknown {
  return (text?.decode ?? JSON.parse)(stored)
}

/** The collections of one index, and the entries of a row in them, for filling a new index. */
export function indexOf(
  shape: TableShape,
  index: string,
): {
  readonly collections: readonly string[]
  entries(rowKey: string, row: unknown): readonly (readonly [collection: string, key: string])[]
} {
  const { name, parts, indexes } = shape
  const fields = indexes[index]!
  const [all, scoped] = [`i:${name}:${index}`, `s:${name}:${index}`]
  return {
    collections: collectionsOf([{ ...shape, indexes: { [index]: fields } }]).slice(1),
    entries(rowKey, row) {
      const values = valuesOf({ fields }, row)
      if (values === undefined) return []
      const entry = [all, checkKeyLength(values + rowKey)] as const
      if (parts.length === 0) return [entry]
      const scope = rowKey.indexOf('\0') + 1
      const within = [scoped, rowKey.slice(0, scope) + values + rowKey.slice(scope)] as const
      return shape.isScoped ? [within] : [entry, within]
    },
  }
}

/** The rows of a table and their indexes. */
export class TableState {
  readonly name: string
  readonly kinds: readonly KeyKind[]
  readonly #rows: Collection<unknown>
  readonly #indexes: readonly Index[]
  readonly #rowBytes: TableShape['rowBytes']

  constructor(state: State, shape: TableShape, codec: Codec<unknown>) {
    const { name, parts, indexes, isScoped } = shape
    this.name = name
    this.kinds = ['string', ...parts]
    this.#rowBytes = shape.rowBytes
    this.#rows = state.collection(`t:${name}`, codec, !shape.isCold)
    this.#indexes = Object.entries(indexes).map(([index, fields]) => ({
      table: name,
      name: index,
      fields,
      entries: isScoped ? undefined : state.collection(`i:${name}:${index}`, nothingCodec, false),
      scoped: parts.length > 0 ? state.collection(`s:${name}:${index}`, nothingCodec, false) : undefined,
    }))
  }

  get(rowKey: string): unknown {
    return this.#rows.get(rowKey)
  }

  /**
   * Sets a row, in its indexes too.
   * @param rowKey the encoded partition key and parts
   * @param isNew whether it is certain that there is no such row, which saves the reading of it
   * @param bytes about how many bytes of memory the row takes, if that is known
   * @throws HenceError `key-invalid`, `key-too-long` (change) when a field cannot be indexed; nothing is
   *   changed
   */
  put(rowKey: string, row: unknown, isNew = false, bytes = this.#rowBytes?.(row)): void {
    if (this.#indexes.length > 0) this.#reindex(rowKey, isNew ? undefined : this.#rows.get(rowKey), row)
    if (isNew) this.#rows.add(rowKey, row, bytes)
    else this.#rows.set(rowKey, row, bytes)
  }

  /** Sets a row in the place of one that was read before, which is not read again. */
  replace(rowKey: string, before: unknown, row: unknown): void {
    this.#reindex(rowKey, before, row)
    this.#rows.set(rowKey, row, this.#rowBytes?.(row))
  }

  /**
   * Removes a row, from its indexes too; returns whether there was one.
   * @param row as it is, if it was read before, which saves the reading of it
   */
  delete(rowKey: string, row = this.#rows.get(rowKey)): boolean {
    if (row === undefined) return false
    if (this.#indexes.length > 0) this.#reindex(rowKey, row, undefined)
    this.#rows.delete(rowKey)
    return true
  }

  /**
   * The rows that match a query, with the parts of their keys, the partition key first.
   *
   * @param within an encoded partition key: returns only rows under it, and the query omits it
   * @param until sees each row; the scan ends with the first that it returns true for
   */
  scan(query: TableQuery, within?: string, until?: (row: TableRow) => boolean): TableRow[] {
    const { limit = Number.POSITIVE_INFINITY } = query
    if (typeof limit !== 'number' || !(limit >= 0)) throw this.#invalid(`its limit is ${limit}`)
    const found: TableRow[] = []
    if (limit === 0) return found
    for (const [rowKey, value] of this.#find(query, within)) {
      const row = { key: decodeKey(this.kinds, rowKey).parts, value }
      found.push(row)
      if (found.length >= limit || until?.(row)) break
    }
    return found
  }

  /** A text that has the place of a row in the order of its keys, or of an index. */
  orderOf({ key, value }: TableRow, index: string | undefined): string {
    const named = this.#indexes.find(({ name }) => name === index)
    return ((named && valuesOf(named, value)) ?? '') + encodeKey(key)
  }

  /** All rows by their encoded keys, in order; used like `Collection.range`. */
  rows(): Iterable<[rowKey: string, row: unknown]> {
    return this.#rows.range()
  }

  /** All entries of its indexes, in order, by the name of their collection. */
  *indexEntries(): Iterable<[collection: string, entries: Iterable<[key: string, true]>]> {
    for (const { name, entries, scoped } of this.#indexes) {
      if (entries !== undefined) yield [`i:${this.name}:${name}`, entries.range()]
      if (scoped !== undefined) yield [`s:${this.name}:${name}`, scoped.range()]
    }
  }

  *#find(query: TableQuery, within: string | undefined): Iterable<[rowKey: string, row: unknown]> {
    const kinds = within === undefined ? this.kinds : this.kinds.slice(1)
    if (query.index === undefined) {
      yield* this.#rows.range(this.#range(query, within ?? '', 0, kinds))
      return
    }
    const index = this.#indexes.find(({ name }) => name === query.index)
    if (index === undefined) throw this.#invalid(`it has no index ${JSON.stringify(query.index)}`)
    const { fields, entries, scoped } = index
    if (within === undefined) {
      if (entries === undefined) throw this.#invalid(`its index ${query.index} is within a key alone`)
      for (const [entry] of entries.range(this.#range(query, '', fields.length, kinds))) {
        const rowKey = entry.slice(skipValues(entry, 0, fields.length))
        yield [rowKey, this.#rows.get(rowKey)]
      }
    } else if (scoped !== undefined) {
      for (const [entry] of scoped.range(this.#range(query, within, fields.length, kinds))) {
        const rowKey = within + entry.slice(skipValues(entry, within.length, fields.length))
        yield [rowKey, this.#rows.get(rowKey)]
      }
    } else {
      // At most one row has this partition key, so only check whether it is in range.
      const { from, to } = this.#range(query, '', fields.length, kinds)
      const row = this.#rows.get(within)
      const values = row === undefined ? undefined : valuesOf(index, row)
      if (values === undefined || values < from || (to !== undefined && values >= to)) return
      yield [within, row]
    }
  }

  /** The range of keys of a query: `values` indexed values, then parts of the given kinds. */
  #range(
    query: TableQuery,
    within: string,
    values: number,
    kinds: readonly KeyKind[],
  ): KeyRange & { from: string } {
    const { prefix = [], from = [], to, reverse } = query
    const begin = within + this.#encode(prefix, 0, values, kinds)
    return {
      from: checkKeyLength(begin + this.#encode(from, prefix.length, values, kinds)),
      to:
        to === undefined || to.length === 0
          ? endOfPrefix(begin)
          : checkKeyLength(begin + this.#encode(to, prefix.length, values, kinds)),
      reverse: reverse === true,
    }
  }

  #encode(parts: readonly IndexValue[], at: number, values: number, kinds: readonly KeyKind[]): string {
    if (!Array.isArray(parts)) throw this.#invalid(`${JSON.stringify(parts)} should be a list`)
    let encoded = ''
    for (const [i, part] of parts.entries()) {
      const place = at + i - values
      if (place >= kinds.length) {
        throw this.#invalid(`it has more than the ${values + kinds.length} parts of a key here`)
      }
      if (place >= 0 && typeof part !== kinds[place]) {
        throw this.#invalid(`${JSON.stringify(part)} should be a ${kinds[place]}`)
      }
      encoded += place < 0 ? encodeIndexValue(part) : encodePart(part as KeyPart)
    }
    return encoded
  }

  #reindex(rowKey: string, before: unknown, after: unknown): void {
    // All entries are computed before the first change, so that a field which cannot be indexed leaves the
    // table unchanged, also for a derivation that catches the error.
    const steps: [index: Index, old: string | undefined, fresh: string | undefined][] = []
    for (const index of this.#indexes) {
      const old = before === undefined ? undefined : valuesOf(index, before)
      const fresh = after === undefined ? undefined : valuesOf(index, after)
      if (old === fresh) continue
      if (fresh !== undefined) checkKeyLength(fresh + rowKey)
      steps.push([index, old, fresh])
    }
    if (steps.length === 0) return
    const scope = this.kinds.length > 1 ? rowKey.indexOf('\0') + 1 : 0
    for (const [{ entries, scoped }, old, fresh] of steps) {
      if (old !== undefined) {
        entries?.delete(old + rowKey)
        scoped?.delete(rowKey.slice(0, scope) + old + rowKey.slice(scope))
      }
      if (fresh !== undefined) {
        entries?.add(fresh + rowKey, true)
        scoped?.add(rowKey.slice(0, scope) + fresh + rowKey.slice(scope), true)
      }
    }
  }

  #invalid(why: string): HenceError {
    return changeError(
      'query-invalid',
      `A query on table "${this.name}" is invalid: ${why}. See the table's \`key\` and \`indexes\`.`,
    )
  }
}

interface Index {
  readonly table: string
  readonly name: string
  readonly fields: readonly string[]
  readonly entries: Collection<true> | undefined
  /** The same entries under the partition key. */
  readonly scoped: Collection<true> | undefined
}

/** Index entries have no value: their key holds everything. */
const nothingCodec: Codec<true> = { encode: () => '', decode: () => true }

/** The encoded indexed values of a row; undefined when it is not in the index. */
function valuesOf({ fields }: Pick<Index, 'fields'>, row: unknown): string | undefined {
  let values = ''
  for (const field of fields) {
    const value = (row as Record<string, IndexValue | null | undefined>)[field]
    if (value === undefined || value === null) return undefined
    values += encodeIndexValue(value)
  }
  return values
}

function skipValues(entry: string, at: number, count: number): number {
  let end = at
  for (let i = 0; i < count; i++) end = skipIndexValue(entry, end)
  return end
}
