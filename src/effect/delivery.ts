import type { App, Effect } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { type Clock, setAlarm } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import type { Reporter } from '../report.ts'
import type { Delivery, DeliveryOptions, Handler } from './handlers.ts'
import type { EffectEnd, EffectRow, Outbox } from './outbox.ts'

/** What delivery needs of the rest of the engine. */
export interface DeliveryHost {
  readonly outbox: Outbox
  readonly clock: Clock
  /** A number in [0, 1). */
  random(): number
  readonly report: Reporter
  /** Brings an effect's end to the log. It may get lost when the engine stops: then the effect is tried again. */
  end(id: string, row: EffectRow, end: EffectEnd): void
}

/** How a try went wrong, and when the next one is. */
export interface Attempts {
  readonly tries: number
  readonly error: string
  /** In milliseconds since 1970. */
  readonly nextAt: number
}

const defaults: Required<Omit<DeliveryOptions, 'perSecond'>> = {
  concurrency: 16,
  triesMax: 20,
  delayMs: 1_000,
  delayMsMax: 2 * 60 * 60 * 1000,
  timeoutMs: 30_000,
}
/** How many effects of one type are in memory at once; the rest waits in the outbox. */
const knownMax = 1_000

/**
 * Delivers effects until each is acknowledged or given up. What an effect came to goes to the log as a record; until
 * that record is applied the effect counts as not delivered, so a crash in between leads to another try
 * under the same id.
 *
 * Tries are counted by this process: after a crash an effect has all of them again.
 */
export class Deliverer {
  readonly #lanes = new Map<string, Lane>()

  /** @param handlers by the name of the effect; effects without one wait */
  constructor(app: App, handlers: Readonly<Record<string, Handler | Delivery>>, host: DeliveryHost) {
    for (const [name, given] of Object.entries(handlers)) {
      const effect = app.effects.get(name)
      if (effect === undefined) {
        throw new HenceError(
          'app-mismatch',
          'change',
          `There is a handler for the effect "${name}", which the app "${app.name}" does not define.`,
        )
      }
      const delivery = typeof given === 'function' ? { deliver: given } : given
      this.#lanes.set(name, new Lane(effect, delivery, host))
    }
    for (const name of app.effects.keys()) {
      if (this.#lanes.has(name)) continue
      host.report({
        level: 'warning',
        code: 'effect-without-handler',
        message: `The effect "${name}" has no handler here: effects of this type are kept and not delivered.`,
      })
    }
  }

  /** Takes up what waits in the outbox. */
  start(): void {
    for (const lane of this.#lanes.values()) lane.more()
  }

  /** Hears of an effect that is to be delivered. */
  asked(type: string): void {
    this.#lanes.get(type)?.more()
  }

  /** Hears that the record of an effect's end was applied. */
  ended(type: string, id: string): void {
    this.#lanes.get(type)?.ended(id)
  }

  /** What became of the tries of an effect that is not delivered yet. */
  attempts(type: string, id: string): Attempts | undefined {
    return this.#lanes.get(type)?.attempts(id)
  }

  /** Begins no more tries, and waits for those under way; after the time of grace it aborts them. */
  async stop(graceMs: number): Promise<void> {
    const lanes = [...this.#lanes.values()]
    const ended = Promise.all(lanes.map((lane) => lane.stop()))
    const timer = setTimeout(() => {
      for (const lane of lanes) lane.abort()
    }, graceMs)
    await ended
    clearTimeout(timer)
  }
}

interface Entry {
  readonly row: EffectRow
  tries: number
  error: string
  nextAt: number
  state: 'ready' | 'trying' | 'waiting' | 'ending'
}

/** The effects of one type. */
class Lane {
  readonly #effect: Effect
  readonly #deliver: Handler
  readonly #options: Required<Omit<DeliveryOptions, 'perSecond'>> & Pick<DeliveryOptions, 'perSecond'>
  readonly #host: DeliveryHost
  /** Those that are known, oldest first. */
  readonly #entries = new Map<string, Entry>()
  readonly #running = new Set<Promise<void>>()
  readonly #aborting = new AbortController()
  /** Whether the outbox may hold more than is known here. */
  #hasMore = false
  #slotAt = 0
  #isPumping = false
  #stopped = false
  #cancelAlarm: (() => void) | undefined

  constructor(effect: Effect, { deliver, ...options }: Delivery, host: DeliveryHost) {
    this.#effect = effect
    this.#deliver = deliver
    this.#options = { ...defaults, ...options }
    this.#host = host
  }

  more(): void {
    this.#hasMore = true
    this.#pump()
  }

  ended(id: string): void {
    this.#entries.delete(id)
    this.#pump()
  }

  attempts(id: string): Attempts | undefined {
    const entry = this.#entries.get(id)
    return entry && { tries: entry.tries, error: entry.error, nextAt: entry.nextAt }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelAlarm?.()
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  abort(): void {
    this.#aborting.abort()
  }

  /** Starts what may start, in a turn of its own: many effects arrive in one. */
  #pump(): void {
    if (this.#isPumping || this.#stopped) return
    this.#isPumping = true
    queueMicrotask(() => {
      this.#isPumping = false
      if (!this.#stopped) this.#start()
    })
  }

  #start(): void {
    const { clock } = this.#host
    const { concurrency, perSecond } = this.#options
    this.#fill()
    const now = clock.now()
    let wakeAt = Number.POSITIVE_INFINITY
    for (const [id, entry] of this.#entries) {
      if (entry.state === 'trying' || entry.state === 'ending') continue
      if (entry.nextAt > now) {
        wakeAt = Math.min(wakeAt, entry.nextAt)
        continue
      }
      if (this.#running.size >= concurrency) break
      if (perSecond !== undefined && this.#slotAt > now) {
        wakeAt = Math.min(wakeAt, this.#slotAt)
        break
      }
      if (perSecond !== undefined) this.#slotAt = Math.max(this.#slotAt, now) + 1000 / perSecond
      const running = this.#try(id, entry).finally(() => {
        this.#running.delete(running)
        this.#pump()
      })
      this.#running.add(running)
    }
    this.#cancelAlarm?.()
    this.#cancelAlarm =
      wakeAt === Number.POSITIVE_INFINITY ? undefined : setAlarm(clock, wakeAt, () => this.#pump())
  }

  #fill(): void {
    if (!this.#hasMore || this.#entries.size >= knownMax) return
    const limit = this.#entries.size + knownMax
    const pending = this.#host.outbox.list('pending', { type: this.#effect.name, limit })
    this.#hasMore = pending.length === limit
    for (const [id, row] of pending) {
      if (this.#entries.has(id)) continue
      if (this.#entries.size >= knownMax) {
        this.#hasMore = true
        return
      }
      this.#entries.set(id, { row, tries: 0, error: '', nextAt: 0, state: 'ready' })
    }
  }

  async #try(id: string, entry: Entry): Promise<void> {
    const { row } = entry
    const { timeoutMs, triesMax, delayMs, delayMsMax } = this.#options
    entry.state = 'trying'
    entry.tries++
    const { tries } = entry
    const timeout = new AbortController()
    const timer = setTimeout(() => timeout.abort(new Error(`it took longer than ${timeoutMs} ms`)), timeoutMs)
    const signal = AbortSignal.any([timeout.signal, this.#aborting.signal])
    let isFinal = false
    try {
      const call = {
        input: JSON.parse(row.input),
        id,
        attempt: tries,
        at: row.at,
        requestId: requestIdOf(row.identity),
        principal: principalOf(row.identity),
        key: row.key,
        signal,
      }
      // A handler that does not heed the signal must not hold its place for ever.
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
      const given = await Promise.race([this.#deliver(call), aborted])
      isFinal = true
      const result = this.#checked(given)
      entry.state = 'ending'
      this.#host.end(id, row, { done: true, tries, result })
      return
    } catch (error) {
      entry.error = error instanceof Error ? error.message : String(error)
      isFinal ||= error instanceof HenceError && error.advice === 'change'
    } finally {
      clearTimeout(timer)
    }
    // An engine that closes has not given the receiver the time that it promised: that is no try.
    if (this.#aborting.signal.aborted) return
    const { name } = this.#effect
    if (isFinal || tries >= triesMax) {
      entry.state = 'ending'
      this.#host.report({
        level: 'alarm',
        code: 'effect-dead',
        message:
          `The effect "${name}" ${id} was given up after ${tries} ${tries === 1 ? 'try' : 'tries'}: ${entry.error}. ` +
          'Mend the cause, then send it again with `hence effects redrive`.',
      })
      this.#host.end(id, row, { done: false, tries, error: entry.error })
      return
    }
    entry.state = 'waiting'
    const longest = Math.min(delayMsMax, delayMs * 2 ** (tries - 1))
    entry.nextAt = this.#host.clock.now() + Math.ceil(longest * (0.5 + this.#host.random() / 2))
  }

  /** What a handler gave back, as the app expects it. */
  #checked(given: unknown): unknown {
    const { output, name } = this.#effect
    if (output === undefined) return null
    const checked = output['~standard'].validate(given)
    if (!(checked instanceof Promise) && checked.issues === undefined) return checked.value
    const why = checked instanceof Promise ? 'its schema is asynchronous' : issuesText(checked.issues!)
    throw new Error(`it was done, but its result does not fit the schema of "${name}" (${why})`)
  }
}
