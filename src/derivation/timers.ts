import { encodeKey } from '../state/keys.ts'
import type { TableShape, TableState } from '../state/table.ts'
import type { Chain } from './chain.ts'

/**
 * Timers that have not gone off: `hence.timers`, by partition key, scope, event, and the app's own name for it.
 */
export const timers: TableShape = {
  name: 'hence.timers',
  parts: ['string', 'string', 'string'],
  indexes: { due: ['partition', 'at'] },
}

/** A timer. */
export interface Timer extends Chain {
  /** When it goes off: log time, in milliseconds since 1970. */
  readonly at: number
  readonly partition: number
  /** The version of the event that the data is of; rows without it are of version 1. */
  readonly version?: number
  /** JSON text. */
  readonly data: string
  /** The event's id, as the hexadecimal digits of its 16 bytes, and its depth. */
  readonly id: string
  readonly depth: number
}

/** The name of a timer: its scope, the event, and the app's own name for it. */
export interface TimerName {
  readonly key: string
  readonly scope: string
  readonly event: string
  readonly name: string
}

export class Timers {
  readonly #rows: TableState
  /** For each partition when its next timer goes off; undefined when that must be looked up. */
  readonly #next: (number | undefined)[] = []
  /**
   * For each partition a place in the order of timers that all of them are at or behind. Those that were taken leave gaps
   * until they are saved, and a search from the beginning would go through them one by one.
   */
  readonly #from: (readonly [at: number, ...key: string[]] | undefined)[] = []

  constructor(rows: TableState) {
    this.#rows = rows
  }

  /** Sets a timer, in the place of one with the same name. */
  set(name: TimerName, timer: Timer): void {
    this.#rows.put(keyOf(name), timer)
    const { at, partition } = timer
    this.#next[partition] = undefined
    const from = this.#from[partition]
    if (from === undefined) return
    const { key, scope, event, name: own } = name
    const place = [at, key, scope, event, own] as const
    if (encodeKey(place) < encodeKey(from)) this.#from[partition] = place
  }

  cancel(name: TimerName): boolean {
    this.forgetNext()
    return this.#rows.delete(keyOf(name))
  }

  /** When the next timer of a partition goes off; infinity when there is none. */
  next(partition: number): number {
    let next = this.#next[partition]
    if (next === undefined) {
      const first = this.#first(partition)
      next = first === undefined ? Number.POSITIVE_INFINITY : (first.value as Timer).at
      this.#next[partition] = next
    }
    return next
  }

  /** Takes out a timer that goes off at a time or before. */
  takeDue(partition: number, time: number): (TimerName & Timer) | undefined {
    if (this.next(partition) > time) return undefined
    const { key, value } = this.#first(partition) as { key: string[]; value: Timer }
    const [partitionKey, scope, event, name] = key as [string, string, string, string]
    this.#rows.delete(encodeKey(key))
    this.#from[partition] = [value.at, ...key]
    this.#next[partition] = undefined
    return { ...value, key: partitionKey, scope, event, name }
  }

  #first(partition: number) {
    const [first] = this.#rows.scan({
      index: 'due',
      prefix: [partition],
      from: this.#from[partition],
      limit: 1,
    })
    return first
  }

  /** To be called when timers that were set or cancelled were undone. */
  forgetNext(): void {
    this.#next.length = 0
  }

  /** To be called when also timers that were taken are there again. */
  forgetTaken(): void {
    this.#from.length = 0
    this.forgetNext()
  }
}

function keyOf({ key, scope, event, name }: TimerName): string {
  return encodeKey([key, scope, event, name])
}
