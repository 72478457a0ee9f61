import { encodeKey } from './keys.ts'
import type { TableQuery, TableRow, TableState } from './table.ts'

/**
 * Work that is done piece by piece: where it yields the state is whole, and other work can go on.
 * A piece is one or two milliseconds long.
 */
export type Pieces = Generator<void, void, void>

/** How many rows a piece changes at most. */
export const pieceRows = 256

export function inOnePiece(work: Pieces): void {
  for (const _ of work);
}

/**
 * Deletes items, the next piece from where the last one ended: it does not pass over what that has deleted.
 * @param from returns the items from behind the last one, or from the first
 * @param limit how many are deleted at most
 */
export function* inPieces<Item>(
  from: (last: Item | undefined) => Iterable<Item>,
  remove: (item: Item) => void,
  limit: number = Number.POSITIVE_INFINITY,
): Pieces {
  let last: Item | undefined
  for (let left = limit; left > 0; left -= pieceRows) {
    const items = firstOf(from(last), Math.min(left, pieceRows))
    for (const item of items) remove(item)
    if (items.length < pieceRows) return
    last = items.at(-1)
    yield
  }
}

function firstOf<Item>(items: Iterable<Item>, count: number): Item[] {
  const first: Item[] = []
  for (const item of items) {
    if (first.length >= count) break
    first.push(item)
  }
  return first
}

/**
 * Deletes the rows that a query finds by an index whose last field is `at`, a time.
 * @param limit how many are deleted at most
 */
export function forgetRows(rows: TableState, query: TableQuery, limit: number): Pieces {
  const from = (last: TableRow | undefined) => {
    const at = last && (last.value as { readonly at: number }).at
    return rows.scan({ ...query, from: at === undefined ? [] : [at], limit: pieceRows })
  }
  return inPieces(from, ({ key }) => rows.delete(encodeKey(key)), limit)
}
