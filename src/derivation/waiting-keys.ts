import { assert } from '../assert.ts'
import { judges } from '../constraint/judges.ts'
import type { RecordedCorrection } from '../log/record.ts'
import { encodeKey, encodePart } from '../state/keys.ts'
import type { TableShape, TableState } from '../state/table.ts'
import type { Chain } from './chain.ts'

/**
 * A key is serial, also across waits: while one of its requests waits for verdicts, what else comes for the
 * key is parked, and derived when the request has ended. The system tables of that:
 *
 *   hence.waiting   key      → the request that waits, and how much is parked behind it
 *   hence.parked    key, n   → a message, numbered in the order in which they came
 *
 * A timer that comes due for such a key stays in its own table, so it can be cancelled: see `Timers`. A key
 * waits also while more timers are due than go off in one step: what comes for it comes after them.
 */
export const waiting: TableShape = { name: 'hence.waiting', parts: [], indexes: {} }
export const parked: TableShape = { name: 'hence.parked', parts: ['number'], indexes: {} }

/** New requests of a key are refused while more than this is parked for it, in bytes. */
const parkedBytesMax = 1024 * 1024

/** A key for which messages are parked. */
interface WaitingKey {
  /** The request that waits for verdicts; null while there is none, and what is parked is being released. */
  readonly asking: { readonly scope: string; readonly identity: string } | null
  /** The number of the first parked message, and of the next one to come. */
  readonly first: number
  readonly next: number
  /**
   * The same of messages that do not wait for the request, but for timers. They are released first: if they
   * waited behind another request that asks, two keys that claim from each other would wait for ever.
   */
  readonly aheadFirst: number
  readonly aheadNext: number
  readonly bytes: number
}

/** Numbers of messages that are released first lie below 0. */
const aheadFrom = -(2 ** 50)
const nobody = { asking: null, first: 0, next: 0, aheadFirst: 0, aheadNext: 0, bytes: 0 }

/** A parked message: its chain, its log time in milliseconds since 1970, and what it needs to be derived. */
export type Parked = Chain & { readonly at: number } & (
    | {
        readonly kind: 'request'
        readonly type: string
        readonly version: number
        readonly input: string
        readonly output?: string
      }
    | {
        readonly kind: 'event'
        readonly type: string
        readonly version: number
        readonly data: string
        /** The id of the event, 16 bytes as hexadecimal digits, and its depth. */
        readonly id: string
        readonly depth: number
      }
    | {
        readonly kind: 'result'
        readonly effect: string
        readonly type: string
        readonly scope: string
        readonly depth: number
        /** JSON text. */
        readonly input: string
        readonly done: boolean
        /** The result as JSON text, or the error. */
        readonly text: string
        readonly redrives: number
      }
    | {
        readonly kind: 'correction'
        readonly correction: RecordedCorrection
        /** Whether this generation asked for the effect that is corrected. */
        readonly isAskedFor: boolean
      }
  )

/** Continues to release what is parked for a key, in a step of its own. */
export const resumeMessage = 'hence:resume'

/** Messages of the judge of a key, and those that a request waits for. */
const passing: ReadonlySet<string> = new Set([
  ...Object.keys(judges),
  ...['hence:settle', 'hence:verdict', resumeMessage],
])
/** They pass if they end the request that waits. */
const ending: ReadonlySet<string> = new Set(['hence:compensate', 'hence:lapse'])

/** @param data of an event, or its JSON text */
function passes(type: string, { asking, aheadFirst, aheadNext }: WaitingKey, data: unknown): boolean {
  if (passing.has(type)) return aheadFirst === aheadNext || type === resumeMessage
  if (asking === null || !ending.has(type)) return false
  const lost = typeof data === 'string' ? JSON.parse(data) : data
  return lost.identity === asking.identity && lost.scope === asking.scope
}

export class WaitingKeys {
  readonly #waiting: TableState
  readonly #parked: TableState
  /** All keys with a row, and perhaps some more: a row that was removed may come back by an undo. */
  #keys: Set<string> | undefined
  /** Keys whose rows were removed in this step. */
  #removed: string[] = []

  constructor(waiting: TableState, parked: TableState) {
    this.#waiting = waiting
    this.#parked = parked
  }

  get isEmpty(): boolean {
    return this.#known().size === 0
  }

  get(key: string): WaitingKey | undefined {
    if (this.isEmpty || !this.#known().has(key)) return undefined
    return this.#waiting.get(encodeKey([key])) as WaitingKey | undefined
  }

  /** Whether a message must be parked, because its key waits. */
  mustWait(key: string, type: string, data?: unknown): boolean {
    const row = this.get(key)
    return row !== undefined && !passes(type, row, data)
  }

  /** Whether so much is parked for a key that no new request should be admitted. */
  isFull(key: string): boolean {
    const row = this.get(key)
    return row !== undefined && row.bytes > parkedBytesMax
  }

  /** A request waits for verdicts from here on; null: messages wait for timers of their key. */
  begin(key: string, asking: WaitingKey['asking']): void {
    const row: WaitingKey = this.get(key) ?? nobody
    assert(row.aheadFirst === row.aheadNext, 'what waits for timers alone comes before requests', key)
    this.#put(key, { ...row, asking })
  }

  /** The request that waited has ended. The key still waits until all parked messages are released. */
  end(key: string): void {
    const row = this.get(key)
    if (row !== undefined) this.#put(key, { ...row, asking: null })
  }

  park(key: string, message: Parked): void {
    const row = this.get(key)!
    const bytes = row.bytes + bytesOf(message)
    const isAhead = row.asking === null && message.kind === 'event' && passing.has(message.type)
    this.#parked.put(keyOf(key, isAhead ? aheadFrom + row.aheadNext : row.next), message)
    this.#put(
      key,
      isAhead ? { ...row, aheadNext: row.aheadNext + 1, bytes } : { ...row, next: row.next + 1, bytes },
    )
  }

  /** The message of a key that is released next. */
  first(key: string, { first, next, aheadFirst, aheadNext }: WaitingKey): Parked | undefined {
    if (aheadFirst < aheadNext) return this.#parked.get(keyOf(key, aheadFrom + aheadFirst)) as Parked
    return first === next ? undefined : (this.#parked.get(keyOf(key, first)) as Parked)
  }

  shift(key: string, row: WaitingKey, message: Parked): void {
    const { first, aheadFirst } = row
    const bytes = row.bytes - bytesOf(message)
    const isAhead = aheadFirst < row.aheadNext
    this.#parked.delete(keyOf(key, isAhead ? aheadFrom + aheadFirst : first))
    this.#put(
      key,
      isAhead ? { ...row, aheadFirst: aheadFirst + 1, bytes } : { ...row, first: first + 1, bytes },
    )
  }

  /** Nothing is parked for a key any more. */
  remove(key: string): void {
    this.#waiting.delete(encodeKey([key]))
    this.#removed.push(key)
  }

  *all(): Iterable<Parked> {
    if (this.isEmpty) return
    for (const [, message] of this.#parked.rows()) yield message as Parked
  }

  /** Call this between steps, when nothing can be undone. */
  tidy(): void {
    if (this.#removed.length === 0) return
    for (const key of this.#removed) {
      if (this.#waiting.get(encodeKey([key])) === undefined) this.#keys?.delete(key)
    }
    this.#removed = []
  }

  #put(key: string, row: WaitingKey): void {
    this.#known().add(key)
    this.#waiting.put(encodeKey([key]), row)
  }

  #known(): Set<string> {
    this.#keys ??= new Set(this.#waiting.scan({}).map(({ key }) => key[0] as string))
    return this.#keys
  }
}

/** Room beside the message itself: names, positions and times. */
const overheadBytes = 200

function bytesOf(message: Parked): number {
  let bytes = overheadBytes
  for (const value of Object.values(message)) if (typeof value === 'string') bytes += Buffer.byteLength(value)
  if (message.kind === 'correction') bytes += Buffer.byteLength(JSON.stringify(message.correction))
  return bytes
}

/** Not limited like other keys, since a message that was accepted must not be refused for its number. */
const keyOf = (key: string, n: number): string => encodePart(key) + encodePart(n)
