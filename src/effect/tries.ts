import type { Effect } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { type Clock, setAlarm, setTimer } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import type { Reporter } from '../report.ts'
import { encodeKey } from '../state/keys.ts'
import { SortedMap } from '../state/sorted-map.ts'
import type { Delivery, DeliveryOptions, Handler } from './handlers.ts'
import type { EffectEnd, EffectRow, Outbox } from './outbox.ts'

/** The parts of the engine that delivery uses. */
export interface DeliveryHost {
  readonly outbox: Outbox
  readonly clock: Clock
  /** A number in [0, 1). */
  random(): number
  readonly report: Reporter
  /** Appends an effect's end to the log. It can be lost when the engine stops; then the effect is tried again. */
  end(id: string, row: EffectRow, end: EffectEnd): void
}

/** The failed tries of an effect, and the time of the next one. */
export interface Attempts {
  readonly tries: number
  readonly error: string
  /** In milliseconds since 1970. */
  readonly nextAt: number
}

const defaults = {
  concurrency: 16,
  perSecond: Number.POSITIVE_INFINITY,
  triesMax: 20,
  delayMs: 1_000,
  delayMsMax: 2 * 60 * 60 * 1000,
  timeoutMs: 30_000,
  idsKeptMs: Number.POSITIVE_INFINITY,
} as const satisfies Required<DeliveryOptions>

/** The smallest value that each option may have. */
const least: Required<DeliveryOptions> = {
  concurrency: 1,
  perSecond: Number.MIN_VALUE,
  triesMax: 1,
  delayMs: 0,
  delayMsMax: 0,
  timeoutMs: 1,
  idsKeptMs: 0,
}

/**
 * How many effects of one type are held in memory, a few hundred bytes each; the rest waits in the outbox.
 * Large, so that effects whose receiver is down do not keep others from being tried.
 */
const knownMax = 20_000
const rowsPerRead = 1_000
/** With more doublings than this, a delay of 0 would become NaN. */
const doublingsMax = 60
/** The longest time, in milliseconds, by which a receiver can postpone the next try. */
const retryAfterMsMax = 24 * 60 * 60 * 1000
const timeoutMsMax = 2 ** 31 - 1
const resultCharactersMax = 1024 * 1024
const errorCharactersMax = 1_000

interface Entry {
  tries: number
  error: string
  nextAt: number
  /** The earliest time at which it may have been tried; undefined if it never was. */
  since: number | undefined
}

/**
 * The tries of all effects of one type: when each begins, how long it may take, and when one that failed is
 * tried again.
 */
export class Tries {
  readonly #effect: Effect
  readonly #deliver: Handler
  readonly #options: Required<DeliveryOptions>
  readonly #host: DeliveryHost
  readonly #startedAt: number
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
  #stopped = false
  #cancelAlarm: (() => void) | undefined

  /** @throws HenceError `option-invalid` (change) */
  constructor(effect: Effect, { deliver, ...options }: Delivery, host: DeliveryHost) {
    this.#effect = effect
    this.#deliver = deliver
    this.#options = { ...defaults, ...options }
    this.#host = host
    this.#startedAt = this.#now = host.clock.now()
    checkOptions(effect.name, this.#options)
  }

  /** Starts with the effects that wait in the outbox. */
  start(): void {
    this.#hasMore = true
    this.#pump()
  }

  asked(id: string, row: EffectRow): void {
    const isRead = this.#readTo !== undefined && encodeKey([row.at, id]) < encodeKey(this.#readTo)
    // An effect before the next read position would not be found there.
    if (isRead || (!this.#hasMore && this.#known.size < knownMax)) this.#add(id, row)
    else this.#hasMore = true
    this.#pump()
  }

  ended(id: string): void {
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
  }

  /** Aborts the tries under way. */
  abort(): void {
    this.#stopped = true
    for (const { abort } of this.#running.values()) abort.abort(new Error('the engine closes'))
  }

  /** Starts tries in a microtask, since many effects arrive in one turn. */
  #pump(): void {
    if (this.#isPumping || this.#stopped) return
    this.#isPumping = true
    queueMicrotask(() => {
      this.#isPumping = false
      if (!this.#stopped) this.#begin()
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
      if (this.#running.size >= concurrency) break
      // The clock counts whole milliseconds: all slots of this one are taken together.
      if (this.#slotAt >= now + 1) {
        wakeAt = Math.min(wakeAt, Math.floor(this.#slotAt))
        break
      }
      this.#slotAt = Math.max(this.#slotAt, now) + 1000 / perSecond
      this.#ready.delete(id)
      const abort = new AbortController()
      const ended = this.#try(id, this.#known.get(id)!, abort).finally(() => {
        this.#running.delete(id)
        this.#pump()
      })
      this.#running.set(id, { ended, abort })
    }
    this.#cancelAlarm?.()
    this.#cancelAlarm =
      wakeAt === Number.POSITIVE_INFINITY ? undefined : setAlarm(this.#host.clock, wakeAt, () => this.#pump())
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
      const options = { type, limit: rowsPerRead, from: this.#readTo }
      const pending = this.#host.outbox.list('pending', options)
      for (const [id, row] of pending) {
        // One row stays unread: the next read begins with it.
        this.#readTo = [row.at, id]
        if (!this.#known.has(id)) this.#add(id, row)
      }
      this.#hasMore = pending.length === rowsPerRead
    }
  }

  #add(id: string, row: EffectRow): void {
    if (this.#known.has(id)) return
    const askedAt = row.redrivenAt ?? row.at
    // An earlier process may have tried it.
    const since = askedAt < this.#startedAt ? askedAt : undefined
    this.#known.set(id, { tries: 0, error: '', nextAt: 0, since })
    this.#ready.add(id)
  }

  #forget(id: string): void {
    const entry = this.#known.get(id)
    if (entry === undefined) return
    this.#known.delete(id)
    this.#ready.delete(id)
    this.#waiting.delete(encodeKey([entry.nextAt, id]))
  }

  #wait(id: string, nextAt: number): void {
    this.#known.get(id)!.nextAt = nextAt
    this.#waiting.set(encodeKey([nextAt, id]), id)
  }

  async #try(id: string, entry: Entry, abort: AbortController): Promise<void> {
    const row = this.#host.outbox.get(id)
    if (row?.state !== 'pending') {
      this.#forget(id)
      return
    }
    const { triesMax, idsKeptMs } = this.#options
    if (entry.since !== undefined && this.#now - entry.since > idsKeptMs) {
      const error = `it may have been tried more than ${idsKeptMs} ms ago, and its receiver may not know that any more`
      this.#giveUp(id, row, { done: false, tries: entry.tries, error })
      return
    }
    entry.since ??= this.#now
    entry.tries++
    let wasDone = false
    try {
      const given = await this.#call(id, row, entry.tries, abort)
      wasDone = true
      this.#host.end(id, row, { done: true, tries: entry.tries, result: this.#checked(given) })
    } catch (thrown) {
      // A closing engine did not give the receiver the promised time, so this does not count as a try.
      if (this.#stopped && abort.signal.aborted) return
      const error = (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, errorCharactersMax)
      entry.error = error
      const isFinal = wasDone || (thrown instanceof HenceError && thrown.advice === 'change')
      if (isFinal || entry.tries >= triesMax) {
        this.#giveUp(id, row, { done: false, tries: entry.tries, error })
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
      const call = {
        type: this.#effect.name,
        input: JSON.parse(row.input),
        id,
        attempt,
        at: row.at,
        requestId: requestIdOf(row.identity),
        principal: principalOf(row.identity),
        key: row.key,
        signal,
      }
      return await Promise.race([this.#deliver(call), aborted])
    } finally {
      cancelTimer()
    }
  }

  #giveUp(id: string, row: EffectRow, end: EffectEnd & { readonly done: false }): void {
    const { tries, error } = end
    this.#host.report({
      level: 'alarm',
      code: 'effect-dead',
      message:
        `The effect "${this.#effect.name}" ${id} was given up after ${tries} ` +
        `${tries === 1 ? 'try' : 'tries'}: ${error}. ` +
        'Mend the cause, then send it again with `hence effects redrive`.',
    })
    this.#host.end(id, row, end)
  }

  /**
   * Doubles with each try. Between half and all of it is waited, so that effects that failed together do not
   * retry together.
   */
  #delay(tries: number): number {
    const { delayMs, delayMsMax } = this.#options
    const longest = Math.min(delayMsMax, delayMs * 2 ** Math.min(tries - 1, doublingsMax))
    // At least 1 ms: retries in the same turn of the event loop would starve everything else.
    return Math.max(1, Math.ceil(longest * (0.5 + this.#host.random() / 2)))
  }

  /** Checks a handler's return value against the effect's schema. */
  #checked(given: unknown): unknown {
    const { output, name } = this.#effect
    if (output === undefined) return null
    // The realm of the schema has no promises, so this is not one.
    const checked = output['~standard'].validate(given) as Awaited<
      ReturnType<(typeof output)['~standard']['validate']>
    >
    if (checked.issues !== undefined) {
      const why = issuesText(checked.issues)
      throw new Error(`it was done, but its result does not fit the schema of "${name}" (${why})`)
    }
    const text: string | undefined = JSON.stringify(checked.value)
    if (text === undefined || text.length > resultCharactersMax) {
      throw new Error(
        `it was done, but the result of "${name}" is no JSON of at most ${resultCharactersMax} characters`,
      )
    }
    return checked.value
  }
}

function retryAfterOf(thrown: unknown): number {
  const ms = (thrown as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs
  return typeof ms === 'number' && ms > 0 ? Math.ceil(Math.min(ms, retryAfterMsMax)) : 0
}

function checkOptions(effect: string, options: Required<DeliveryOptions>): void {
  for (const name of Object.keys(least) as (keyof DeliveryOptions)[]) {
    const value: unknown = options[name]
    const isEnough = typeof value === 'number' && value >= least[name]
    if (isEnough && (name !== 'timeoutMs' || value <= timeoutMsMax)) continue
    throw new HenceError(
      'option-invalid',
      'change',
      `\`${name}\` of the effect "${effect}" is ${value}; it must be a number from ${least[name]} on` +
        `${name === 'timeoutMs' ? ` to ${timeoutMsMax}` : ''}.`,
    )
  }
}
