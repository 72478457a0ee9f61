import type { Query, QueryPart } from '../app/index.ts'
import { changeError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonTextAnswer } from './answer.ts'

/** The most bytes of a page as JSON; it has at least one item all the same. */
const pageBytes = 1024 * 1024

/** Gathers one page of a list as JSON text, so that what it holds is bounded in items and in bytes. */
export class Page<Item> {
  readonly #limit: number
  readonly #isSeen: (item: Item) => boolean
  readonly #texts: string[] = []
  #bytes = 0
  #last: Item | undefined
  #hasMore = false

  /** @param isSeen whether an item is the last of the page before, with which this one may begin */
  constructor(limit: number, isSeen: (item: Item) => boolean = () => false) {
    this.#limit = limit
    this.#isSeen = isSeen
  }

  /** Takes the next item; returns true if that belongs to the next page, so nothing more is to be read. */
  readonly ends = (item: Item): boolean => {
    if (this.#texts.length === 0 && this.#isSeen(item)) return false
    if (this.#texts.length === this.#limit) return this.#end()
    const text = JSON.stringify(item)
    const bytes = Buffer.byteLength(text)
    if (this.#texts.length > 0 && this.#bytes + bytes > pageBytes) return this.#end()
    this.#texts.push(text)
    this.#bytes += bytes
    this.#last = item
    return false
  }

  /** @param cursorAt the cursor of the page behind an item */
  answer(request: Request, name: string, cursorAt: (last: Item) => string): Answer {
    const cursor = this.#hasMore ? `,"cursor":${JSON.stringify(cursorAt(this.#last!))}` : ''
    return jsonTextAnswer(request, `{"${name}":[${this.#texts.join()}]${cursor}}`)
  }

  #end(): true {
    this.#hasMore = true
    return true
  }
}

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
