import { encodeKey } from './keys.ts'
import { inPieces, type Pieces, pieceRows } from './pieces.ts'
import type { TableQuery, TableRow, TableState } from './table.ts'

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
