import type { Effect } from '../app/index.ts'
import { issuesText, type Validated } from '../app/schema.ts'
import { type Clock, setAlarm, setTimer } from '../clock.ts'
import { HenceError, thrownText } from '../failure.ts'
import { senderOf } from '../identity.ts'
import type { Reporter } from '../report.ts'
import { encodeKey } from '../state/keys.ts'
import { SortedMap } from '../state/sorted-map.ts'
import { DeadLetters } from './dead-letters.ts'
import { type Delivery, type DeliveryOptions, deliveryOptionsOf, type Handler } from './handlers.ts'
import { KeyOrder } from './key-order.ts'
import type { EffectEnd, EffectRow, Outbox } from './outbox.ts'

/** The parts of the engine that delivery uses. */
export interface DeliveryHost {
  outbox(): Outbox
  /** Resolves when the outbox can be read; undefined if it can be now. */
  unreadable(): Promise<void> | undefined
  readonly clock: Clock
  /** A number in [0, 1). */
  random(): number
  readonly report: Reporter
  readonly notes?: TryNotes | undefined
  /** Where a derivation asked for an effect: effects of one key have the order of their places. */
  readonly place: (id: string) => readonly [offset: number, nth: number]
  /** Runs code of the app under a limit; false if it was ended. */
  readonly timed: (act: () => void) => Promise<boolean>
  /** Appends an effect's end to the log. It can be lost when the engine stops; then the effect is tried again. */
  end(id: string, row: EffectRow, end: EffectEnd): void
}

/** Remembers the tries of effects beyond the process. They may be lost with the derived state. */
export interface TryNotes {
  /** The tries of an effect, and whether a process ended during the last one. */
  of(id: string): { readonly tries: number; readonly isUnderWay: boolean } | undefined
  /** A try begins, and may end the process. */
  began(id: string, tries: number): void
  /** No try is under way any more, and so many count. */
  failed(id: string, tries: number): void
  ended(id: string): void
  /** Forgets the effects that do not wait any more. */
  keepOnly(isPending: (id: string) => boolean): void
}

/** The failed tries of an effect, and the time of the next one. */
export interface Attempts {
  readonly tries: number
  readonly error: string
  /** In milliseconds since 1970. */
  readonly nextAt: number
}

/** How many effects of one type are in memory; many, so that a receiver that is down delays no others. */
const knownMax = 20_000
const rowsPerRead = 1_000
/** With more doublings than this, a delay of 0 would become NaN. */
const doublingsMax = 60
/** The longest time, in milliseconds, by which a receiver can postpone the next try. */
const retryAfterMsMax = 24 * 60 * 60 * 1000
const resultCharactersMax = 1024 * 1024
const endedError = 'the process ended while it was tried'
const errorCharactersMax = 1_000

interface Entry {
  tries: number
  error: string
  nextAt: number
  /** The earliest time at which it may have been tried; undefined if it never was. */
  since: number | undefined
  /** Processes have ended during its tries, more than one in a row: it is tried while nothing else is. */
  isAlone: boolean
  readonly key: string
}

/** The tries of all effects of one type: when each begins and is repeated, and how long it may take. */
export class Tries {
  readonly #effect: Effect
  readonly #deliver: Handler
  readonly #options: Required<DeliveryOptions>
  readonly #host: DeliveryHost
  readonly #startedAt: number
  readonly #dead: DeadLetters
  /** Undefined if no order is kept. */
  readonly #order: KeyOrder | undefined
  readonly #known = new Map<string, Entry>()
  /** Effects that can be tried now, in order. */
  readonly #ready = new Set<string>()
  /** Effects to be tried later, by that time and their ids. */
  readonly #waiting = new SortedMap<string>()
  readonly #running = new Map<string, { readonly ended: Promise<void>; readonly abort: AbortController }>()
  /** Whether the outbox may hold effects, from `#readTo` on, that are not in memory yet. */
  #hasMore = false
  #readTo: [at: number, id: string] | undefined
  /** When the next try may begin, if tries per second are limited. */
  #slotAt = 0
  #now: number
  #isPumping = false
  #isPaused = false
  /** Whether the one try that is under way must be the only one. */
  #isAlone = false
  #stopped = false
  #cancelAlarm: (() => void) | undefined

  /** @throws HenceError `option-invalid` (change) */
  constructor(effect: Effect, { deliver, ...options }: Delivery, host: DeliveryHost) {
    this.#effect = effect
    this.#deliver = deliver
    this.#options = deliveryOptionsOf(effect.name, options)
    this.#host = host
    this.#startedAt = this.#now = host.clock.now()
    this.#dead = new DeadLetters(effect.name, host)
    this.#order = this.#options.order === 'key' ? new KeyOrder(host.place) : undefined
  }

  /** Starts with the effects that wait in the outbox. */
  start(): void {
    this.#hasMore = true
    this.#pump()
  }

  /** Begins no new tries, and reads nothing. Those under way go on. */
  pause(): void {
    this.#isPaused = true
  }

  /** The outbox can be read again, and may have changed. */
  resume(): void {
    this.#isPaused = false
    for (const id of this.#known.keys()) {
      if (!this.#running.has(id) && this.#host.outbox().get(id)?.state !== 'pending') this.#forget(id)
    }
    this.#readTo = undefined
    this.start()
  }

  asked(id: string, row: EffectRow): void {
    const isRead = this.#readTo !== undefined && encodeKey([row.at, id]) < encodeKey(this.#readTo)
    // An effect before the next read position would not be found there.
    if (isRead || (!this.#hasMore && this.#known.size < knownMax))
      this.#add(id, row, row.redrivenAt === undefined)
    else this.#hasMore = true
    this.#pump()
  }

  ended(id: string): void {
    this.#host.notes?.ended(id)
    this.#forget(id)
    this.#pump()
  }

  attempts(id: string): Attempts | undefined {
    const entry = this.#known.get(id)
    return entry && { tries: entry.tries, error: entry.error, nextAt: entry.nextAt }
  }

  /** Begins no more tries; resolves when those under way have ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelAlarm?.()
    while (this.#running.size > 0) await Promise.all([...this.#running.values()].map(({ ended }) => ended))
    this.#dead.report()
  }

  /** Aborts the tries under way. */
  abort(): void {
    this.#stopped = true
    for (const { abort } of this.#running.values()) abort.abort(new Error('the engine closes'))
  }

  /** Starts tries in a microtask, since many effects arrive in one turn. */
  #pump(): void {
    if (this.#isPumping || this.#stopped || this.#isPaused) return
    this.#isPumping = true
    queueMicrotask(() => {
      this.#isPumping = false
      if (this.#stopped || this.#isPaused) return
      const wait = this.#host.unreadable()
      if (wait === undefined) this.#begin()
      else void wait.then(() => this.#pump())
    })
  }

  #begin(): void {
    const { concurrency, perSecond } = this.#options
    const now = this.#readClock()
    this.#fill()
    for (let key = this.#waiting.minKey(); key !== undefined; key = this.#waiting.minKey()) {
      const id = this.#waiting.get(key)!
      if (this.#known.get(id)!.nextAt > now) break
      this.#waiting.delete(key)
      this.#ready.add(id)
    }
    const next = this.#waiting.minKey()
    let wakeAt =
      next === undefined ? Number.POSITIVE_INFINITY : this.#known.get(this.#waiting.get(next)!)!.nextAt
    for (const id of this.#ready) {
      const entry = this.#known.get(id)!
      if (this.#running.size >= (entry.isAlone || this.#isAlone ? 1 : concurrency)) break
      // The clock counts whole milliseconds: all slots of this one are taken together.
      if (this.#slotAt >= now + 1) {
        wakeAt = Math.min(wakeAt, Math.floor(this.#slotAt))
        break
      }
      this.#slotAt = Math.max(this.#slotAt, now) + 1000 / perSecond
      this.#ready.delete(id)
      this.#isAlone = entry.isAlone
      const abort = new AbortController()
      const ended = this.#try(id, entry, abort).finally(() => {
        this.#running.delete(id)
        this.#isAlone = false
        this.#pump()
      })
      this.#running.set(id, { ended, abort })
    }
    this.#cancelAlarm?.()
    const isPlanned = wakeAt < Number.POSITIVE_INFINITY
    this.#cancelAlarm = isPlanned ? setAlarm(this.#host.clock, wakeAt, () => this.#pump()) : undefined
  }

  /** Reads the clock. If it was set back, all planned times move back with it, so delays stay as they are. */
  #readClock(): number {
    const now = this.#host.clock.now()
    const back = this.#now - now
    this.#now = now
    if (back <= 0) return now
    this.#slotAt -= back
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const id of waiting) this.#wait(id, this.#known.get(id)!.nextAt - back)
    return now
  }

  #fill(): void {
    while (this.#hasMore && this.#known.size < knownMax) {
      const { name: type } = this.#effect
      let pending: [string, EffectRow][]
      let limit = rowsPerRead
      do {
        pending = this.#host.outbox().list('pending', { type, limit, from: this.#readTo })
        limit *= 2
        // All that were asked for at one time are read together, since their rows are in no order.
      } while (this.#order && pending.length === limit / 2 && pending[0]![1].at === pending.at(-1)![1].at)
      this.#hasMore = pending.length === limit / 2
      const last = pending.at(-1)
      for (const [id, row] of pending) {
        if (this.#hasMore && this.#order && row.at === last![1].at) break
        this.#add(id, row)
      }
      // One row stays unread: the next read begins with it.
      if (last) this.#readTo = [last[1].at, this.#hasMore && this.#order ? '' : last[0]]
    }
  }

  #add(id: string, row: EffectRow, isNew = false): void {
    if (this.#known.has(id)) return
    const askedAt = row.redrivenAt ?? row.at
    // An earlier process may have tried it.
    const since = askedAt < this.#startedAt ? askedAt : undefined
    const { tries, isUnderWay } = this.#host.notes?.of(id) ?? { tries: 0, isUnderWay: false }
    const error = isUnderWay ? endedError : ''
    const key = encodeKey([row.scope, row.key])
    const isFirst = this.#order?.add(key, { id, at: row.at }, isNew, (id) => this.#ready.delete(id)) ?? true
    this.#known.set(id, { tries, error, nextAt: 0, since, isAlone: isUnderWay && tries > 1, key })
    if (!isFirst) return
    // Others get their turn before a try that may end the process again.
    if (isUnderWay) this.#wait(id, this.#now + this.#delay(tries))
    else this.#ready.add(id)
  }

  #forget(id: string): void {
    const entry = this.#known.get(id)
    if (entry === undefined) return
    this.#known.delete(id)
    this.#ready.delete(id)
    this.#waiting.delete(encodeKey([entry.nextAt, id]))
    const next = this.#order?.remove(entry.key, id)
    if (next !== undefined) this.#ready.add(next)
  }

  #wait(id: string, nextAt: number): void {
    this.#known.get(id)!.nextAt = nextAt
    this.#waiting.set(encodeKey([nextAt, id]), id)
  }

  async #try(id: string, entry: Entry, abort: AbortController): Promise<void> {
    const row = this.#host.outbox().get(id)
    if (row?.state !== 'pending') {
      this.#forget(id)
      return
    }
    const { triesMax, idsKeptMs } = this.#options
    const isLate = entry.since !== undefined && this.#now - entry.since > idsKeptMs
    if (isLate || entry.tries >= triesMax) {
      const late = `it may have been tried more than ${idsKeptMs} ms ago, and its receiver may not know that any more`
      this.#giveUp(id, row, { tries: entry.tries, ms: 0, error: isLate ? late : entry.error || endedError })
      return
    }
    entry.since ??= this.#now
    entry.tries++
    this.#host.notes?.began(id, entry.tries)
    const began = this.#host.clock.now()
    const ms = () => Math.max(1, this.#host.clock.now() - began)
    let wasDone = false
    try {
      const given = await this.#call(id, row, entry.tries, abort)
      wasDone = true
      // It counts once its result is in the log.
      this.#host.notes?.failed(id, entry.tries - 1)
      const end = { done: true, tries: entry.tries, ms: ms() } as const
      this.#host.end(id, row, { ...end, result: await this.#checked(given) })
    } catch (thrown) {
      // A closing engine did not give the receiver the promised time, so this does not count as a try.
      if (this.#stopped && abort.signal.aborted) {
        this.#host.notes?.failed(id, entry.tries - 1)
        return
      }
      this.#host.notes?.failed(id, entry.tries)
      entry.isAlone = false
      const error = thrownText(thrown).slice(0, errorCharactersMax)
      entry.error = error
      const isFinal = wasDone || (thrown instanceof HenceError && thrown.advice === 'change')
      if (isFinal || entry.tries >= triesMax) {
        this.#giveUp(id, row, { tries: entry.tries, ms: ms(), error })
      } else {
        const delay = Math.max(this.#delay(entry.tries), retryAfterOf(thrown))
        this.#wait(id, this.#host.clock.now() + delay)
      }
    }
  }

  /** Calls the handler. A call that takes too long is aborted and counts as failed, whatever it returns later. */
  async #call(id: string, row: EffectRow, attempt: number, abort: AbortController): Promise<unknown> {
    const { timeoutMs } = this.#options
    const { signal } = abort
    const cancelTimer = setTimer(this.#host.clock, timeoutMs, () =>
      abort.abort(new Error(`it took longer than ${timeoutMs} ms`)),
    )
    // A handler that ignores the signal must not hold its place for ever.
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
    })
    try {
      const { name: type } = this.#effect
      const { at, key } = row
      const input = JSON.parse(row.input)
      const call = { type, input, id, attempt, at, ...senderOf(row.identity), key, signal }
      return await Promise.race([this.#deliver(call), aborted])
    } finally {
      cancelTimer()
    }
  }

  #giveUp(id: string, row: EffectRow, end: { tries: number; ms: number; error: string }): void {
    this.#dead.add(id, end)
    this.#host.end(id, row, { done: false, ...end })
  }

  /** Doubles with each try. Half to all of it is waited, so that effects that failed together spread out. */
  #delay(tries: number): number {
    const { delayMs, delayMsMax } = this.#options
    const longest = Math.min(delayMsMax, delayMs * 2 ** Math.min(tries - 1, doublingsMax))
    // At least 1 ms: retries in the same turn of the event loop would starve everything else.
    return Math.max(1, Math.ceil(longest * (0.5 + this.#host.random() / 2)))
  }

  /** Checks a handler's return value against the effect's schema, which may not end. */
  async #checked(given: unknown): Promise<unknown> {
    const { output, name } = this.#effect
    if (output === undefined) return null
    let result: unknown
    const hasEnded = await this.#host.timed(() => {
      // The realm of the schema has no promises, so this is not one.
      const checked = output['~standard'].validate(given) as Validated
      if (checked.issues !== undefined)
        throw unfit(`its result does not fit the schema of "${name}" (${issuesText(checked.issues)})`)
      const text: string | undefined = JSON.stringify(checked.value)
      if (text === undefined || text.length > resultCharactersMax)
        throw unfit(`the result of "${name}" is no JSON of at most ${resultCharactersMax} characters`)
      result = checked.value
    })
    if (!hasEnded) throw unfit(`the schema of "${name}" did not end for its result`)
    return result
  }
}

const unfit = (how: string) => new Error(`it was done, but ${how}`)

function retryAfterOf(thrown: unknown): number {
  const ms = (thrown as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs
  return typeof ms === 'number' && ms > 0 ? Math.ceil(Math.min(ms, retryAfterMsMax)) : 0
}
