import type { Query, QueryPart } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { type Answer, jsonTextAnswer } from './answer.ts'
import type { AskedRequest } from './asked.ts'

/** The most bytes of a page as JSON; it has at least one item all the same. */
const pageBytes = 1024 * 1024

/**
 * Gathers one page of a list as JSON text, bounded in items and in bytes.
 * @param isSeen whether an item is the last of the page before, with which this one may begin
 */
export function pageOf<Item>(limit: number, isSeen: (item: Item) => boolean) {
  const texts: string[] = []
  let bytes = 0
  let last: Item | undefined
  let hasMore = false
  return {
    /** Takes the next item; returns true if that belongs to the next page, so nothing more is to be read. */
    ends(item: Item): boolean {
      if (texts.length === 0 && isSeen(item)) return false
      const text = JSON.stringify(item)
      const itemBytes = Buffer.byteLength(text)
      hasMore = texts.length === limit || (texts.length > 0 && bytes + itemBytes > pageBytes)
      if (hasMore) return true
      texts.push(text)
      bytes += itemBytes
      last = item
      return false
    },
    /** @param cursorAt the cursor of the page behind an item */
    answer(request: AskedRequest, name: string, cursorAt: (last: Item) => string): Answer {
      const cursor = hasMore ? `,"cursor":${JSON.stringify(cursorAt(last!))}` : ''
      return jsonTextAnswer(request, `{"${name}":[${texts.join()}]${cursor}}`)
    },
  }
}

/** The position of a row in the order of a query: the indexed values, then the key. */
export type RowPosition = readonly QueryPart[]

/** The cursor of a page is the position of its last row, which the reader has seen; so it outlives the process. */
export function makeCursor(position: RowPosition): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

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
