import { assert } from '../assert.ts'
import { encodeKey } from '../state/keys.ts'
import type { TableRow, TableShape, TableState } from '../state/table.ts'
import type { Chain } from './chain.ts'

/** The timers that have not gone off: by partition key, scope, event, and the key that the app gave. */
export const timers: TableShape = {
  name: 'hence.timers',
  parts: ['string', 'string', 'string'],
  indexes: { due: ['partition', 'at'] },
}

export interface Timer extends Chain {
  /** The time at which it goes off: log time, in milliseconds since 1970. */
  readonly at: number
  readonly partition: number
  /** The version of the event that the data has; 1 in rows without it. */
  readonly version?: number
  /** JSON text. */
  readonly data: string
  /** The id of the event, 16 bytes as hexadecimal digits, and its depth. */
  readonly id: string
  readonly depth: number
}

/** Stands for the partition of a timer that came due while its key waited: it is not due again. */
const parkedPartition = -1

/** The key of a timer: partition key, scope, event, and the key that the app gave it. */
export interface TimerName {
  readonly key: string
  readonly scope: string
  readonly event: string
  readonly name: string
}

export class Timers {
  readonly #rows: TableState
  /** By partition: the time of its next timer; undefined if it must be looked up. */
  readonly #next: (number | undefined)[] = []
  /**
   * By partition, or partition and key: a lower bound of the timers in the order of the index. Timers that
   * were taken leave gaps in the store until the next checkpoint, and a search from the beginning would go
   * through them one by one.
   */
  readonly #from = new Map<string, readonly [at: number, ...key: string[]]>()

  /** The timers that were set in this step: they are due in a later one. */
  readonly #fresh = new Set<string>()

  constructor(rows: TableState) {
    this.#rows = rows
  }

  set(name: TimerName, timer: Timer): void {
    this.#rows.put(keyOf(name), timer)
    this.#fresh.add(keyOf(name))
    const { at, partition } = timer
    if (partition !== parkedPartition) this.#next[partition] = undefined
    this.#lower(`${partition}`, [at, name.key, name.scope, name.event, name.name])
    this.#lower(`${partition} ${name.key}`, [at, name.scope, name.event, name.name])
  }

  #lower(of: string, entry: readonly [at: number, ...key: string[]]): void {
    const from = this.#from.get(of)
    if (from !== undefined && encodeKey(entry) < encodeKey(from)) this.#from.set(of, entry)
  }

  cancel(name: TimerName): boolean {
    this.forgetNext()
    return this.#rows.delete(keyOf(name))
  }

  /** The time at which the next timer of a partition goes off; infinity if there is none. */
  next(partition: number): number {
    let next = this.#next[partition]
    if (next === undefined) {
      const first = this.#first(partition)
      next = first === undefined ? Number.POSITIVE_INFINITY : (first.value as Timer).at
      this.#next[partition] = next
    }
    return next
  }

  /** Removes and returns a timer that goes off at a time or before. */
  takeDue(partition: number, time: number): (TimerName & Timer) | undefined {
    if (this.next(partition) > time) return undefined
    const first = this.#first(partition)
    assert(first !== undefined, 'a partition whose next timer is due has that timer', partition)
    const timer = timerOf(first)
    assert(timer.at <= time, 'a timer goes off at its time or later', time, timer.at)
    this.take(timer)
    this.#from.set(`${partition}`, [timer.at, ...(first.key as string[])])
    return timer
  }

  /** Removes a timer, because it goes off. */
  take(timer: TimerName & Timer): void {
    this.#rows.delete(keyOf(timer))
    if (timer.partition !== parkedPartition) this.#next[timer.partition] = undefined
  }

  /** Keeps a timer that was taken: its key waits, and it can be cancelled until it waits no longer. */
  park({ key, scope, event, name, ...timer }: TimerName & Timer): void {
    this.set({ key, scope, event, name }, { ...timer, partition: parkedPartition })
  }

  /** Call this at the beginning of a step. */
  tidy(): void {
    if (this.#fresh.size > 0) this.#fresh.clear()
  }

  /** Whether a key has a timer that was due at a time before this step. */
  isDue(partition: number, key: string, at: number): boolean {
    if (this.next(partition) > at) return false
    const query = { index: 'due', prefix: [partition], from: this.#from.get(`${partition} ${key}`) }
    const isOld = ({ key, value }: TableRow) => (value as Timer).at > at || !this.#fresh.has(encodeKey(key))
    const last = this.#rows.scan(query, encodeKey([key]), isOld).at(-1)
    return last !== undefined && (last.value as Timer).at <= at && isOld(last)
  }

  /** The timers of a key that were due have gone off. */
  passed(partition: number, key: string): void {
    this.#from.delete(`${partition} ${key}`)
    this.#from.delete(`${parkedPartition} ${key}`)
  }

  /** The next timer of one key, parked or not, that goes off by a time; undefined: before `now`. */
  nextOf(
    partition: number,
    key: string,
    until: number | undefined,
    now: number,
  ): (TimerName & Timer) | undefined {
    const parked = this.#firstOf(parkedPartition, key, until ?? now)
    const untilSet = until ?? now - 1
    const set = this.next(partition) > untilSet ? undefined : this.#firstOf(partition, key, untilSet)
    if (parked === undefined || set === undefined) return parked ?? set
    const isFirst = parked.at < set.at || (parked.at === set.at && keyOf(parked) < keyOf(set))
    return isFirst ? parked : set
  }

  #firstOf(partition: number, key: string, until: number): (TimerName & Timer) | undefined {
    const of = `${partition} ${key}`
    const query = { index: 'due', prefix: [partition], from: this.#from.get(of), limit: 1 }
    const [first] = this.#rows.scan(query, encodeKey([key]))
    if (first === undefined) return undefined
    this.#from.set(of, [(first.value as Timer).at, ...(first.key.slice(1) as string[])])
    return (first.value as Timer).at > until ? undefined : timerOf(first)
  }

  #first(partition: number) {
    const query = { index: 'due', prefix: [partition], from: this.#from.get(`${partition}`), limit: 1 }
    return this.#rows.scan(query)[0]
  }

  /** Call this when setting or cancelling timers was undone. */
  forgetNext(): void {
    this.#next.length = 0
  }

  /** Call this when taking timers was undone, too. */
  forgetTaken(): void {
    this.#from.clear()
    this.forgetNext()
  }
}

function timerOf(row: ReturnType<TableState['scan']>[number]): TimerName & Timer {
  const [key, scope, event, name] = row.key as [string, string, string, string]
  return { ...(row.value as Timer), key, scope, event, name }
}

const keyOf = ({ key, scope, event, name }: TimerName): string => encodeKey([key, scope, event, name])
