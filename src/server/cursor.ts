import type { Query, QueryPart } from '../app/index.ts'
import { changeError } from '../failure.ts'

/** The position of a row in the order of a query: the indexed values, then the key. */
export type RowPosition = readonly QueryPart[]

/** The cursor of a page is the position of its last row, which the reader has seen; so it outlives the process. */
export function makeCursor(position: RowPosition): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

/** @throws HenceError `cursor-invalid` (change) also for a position outside the query */
export function readCursor(cursor: string, { prefix = [] }: Query): RowPosition {
  let position: unknown
  try {
    position = JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {
    throw cursorInvalid()
  }
  if (!Array.isArray(position) || prefix.some((part, i) => position[i] !== part)) throw cursorInvalid()
  return position
}

export const cursorInvalid = () =>
  changeError('cursor-invalid', 'The cursor belongs to another query: start with the first page.')
