import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import type { Generation } from './generation.ts'
import type { Recorded } from './placing.ts'
import { replay } from './replay.ts'

/** How far a generation is that is not live. */
export interface ReprocessStatus {
  readonly generation: number
  /** The version of its code. */
  readonly version: string
  /**
   * `deriving`: on its way; `following`: it has reached the end of the log, and follows; `paused`; `failed`: see `error`.
   */
  readonly state: 'deriving' | 'following' | 'paused' | 'failed'
  /** It was live before, and is kept for the way back. */
  readonly wasLive: boolean
  /** Records derived, of so many that the log has. */
  readonly records: number
  readonly of: number
  /** Records a second, lately; undefined when nothing is being derived. */
  readonly perSecond?: number
  /** How long it will still take, in milliseconds, as it looks now. */
  readonly leftMs?: number
  /** Derivations that threw. */
  readonly failures: number
  readonly share: number
  readonly error?: { readonly code: string; readonly message: string }
  /** The hash of the last diff, if one was made since it began. */
  readonly diff?: string
}

/** What following needs of the engine. */
export interface FollowingHost {
  readonly log: Log
  /** How far the live generation is, at one moment. */
  cut(): Cut
  /** Resolves when the live generation has applied another record; rejects when it will not any more. */
  next(): Promise<void>
  /** Whether somebody waits for what the live generation does. */
  isBusy(): boolean
  /** After so many changed rows the state is saved. */
  readonly checkpointRows: number
  /** The state of it has changed in a way that should outlast this process. */
  changed(): void
}

/** How far the live generation is. */
export interface Cut {
  readonly positions: readonly number[]
  /** No record that is still to come has an earlier log time. */
  readonly frontier: number
  /** Events that were emitted and not applied yet, by target. */
  readonly waiting: readonly (readonly Recorded[])[]
}

/** Between two pauses it works about so long, in milliseconds: what a live request may have to wait for. */
const sliceMs = 1
const recordsPerSlice = 32
/** When it has caught up, it takes what has gathered, and does not wake for each record. */
const restMs = 20

/** A generation that is not live follows the log, beside the one that is, in slices of time. */
export class Following {
  readonly generation: Generation
  readonly wasLive: boolean
  readonly #host: FollowingHost
  share: number
  #state: 'deriving' | 'following' | 'paused' | 'failed'
  #error: HenceError | undefined
  #running: Promise<void> | undefined
  #isStopping = false
  #failures = 0
  #checkpoint: Promise<void> | undefined
  /** For the speed: when, and how many records had been applied by then. */
  #since: { readonly at: number; readonly records: number } | undefined
  #perSecond: number | undefined
  #reached = Promise.withResolvers<void>()
  #hasReached = false
  /** Why it never goes on. */
  #ended: HenceError | undefined
  #wake: (() => void) | undefined

  constructor(
    generation: Generation,
    host: FollowingHost,
    options: { readonly wasLive: boolean; readonly share: number; readonly paused: boolean },
  ) {
    this.generation = generation
    this.#host = host
    this.wasLive = options.wasLive
    this.share = options.share
    this.#state = options.paused ? 'paused' : 'deriving'
    this.#reached.promise.catch(() => {})
    generation.listener = {
      failed: () => {
        this.#failures++
      },
    }
  }

  get paused(): boolean {
    return this.#state === 'paused'
  }

  get hasCaughtUp(): boolean {
    return this.#state === 'following'
  }

  status(diff: string | undefined): ReprocessStatus {
    const { positions } = this.generation.processor
    const records = sum(positions)
    const of = Math.max(records, sum(this.#host.cut().positions))
    const perSecond = this.#state === 'deriving' ? this.#perSecond : undefined
    return {
      generation: this.generation.number,
      version: this.generation.program.version,
      state: this.#state,
      wasLive: this.wasLive,
      records,
      of,
      ...(perSecond && { perSecond, leftMs: Math.round(((of - records) / perSecond) * 1_000) }),
      failures: this.#failures,
      share: this.share,
      ...(this.#error && { error: { code: this.#error.code, message: this.#error.message } }),
      ...(diff !== undefined && { diff }),
    }
  }

  /** Begins, or goes on after a pause or a failure. */
  start(): void {
    if (this.#running || this.#ended) return
    if (this.#hasReached) this.#reachAgain()
    this.#state = 'deriving'
    this.#error = undefined
    this.#isStopping = false
    this.#running = this.#run().finally(() => {
      this.#running = undefined
    })
  }

  async pause(): Promise<void> {
    await this.stop()
    this.#state = 'paused'
  }

  /** Stops working; `start` goes on. */
  async stop(): Promise<void> {
    this.#isStopping = true
    this.#wake?.()
    await this.#running
    // That one failed is in the status.
    await this.#checkpoint?.catch(() => {})
  }

  /** Resolves when it has reached the live generation; rejects when it failed, or is ended. */
  async caughtUp(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    if (this.#ended) throw this.#ended
    if (this.#state === 'following') return
    if (this.#error) throw this.#error
    if (this.#state === 'paused') throw isPaused()
    const aborted = Promise.withResolvers<never>()
    const abort = () => aborted.reject(signal?.reason)
    signal?.addEventListener('abort', abort)
    try {
      await Promise.race([this.#reached.promise, aborted.promise])
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /**
   * Applies all that the live generation has applied, while that stands still. What is still under way in this one then
   * belongs behind records that may have the log time of the last one and are still to come.
   */
  async catchUp(): Promise<void> {
    await this.stop()
    const { positions, frontier, waiting } = this.#host.cut()
    this.#note(waiting)
    await replay(this.#host.log, this.generation, {
      ends: positions,
      frontier,
      pause: () => this.#saveIfDue(),
    })
    await this.#checkpoint
  }

  /** It goes on no more, and whoever waits for it is told why. */
  end(why: HenceError): void {
    this.#ended ??= why
    this.#isStopping = true
    this.#wake?.()
    this.#reached.reject(this.#ended)
  }

  async close(why: HenceError): Promise<void> {
    this.end(why)
    await this.stop()
    await this.generation.close()
  }

  async #run(): Promise<void> {
    try {
      while (!this.#isStopping) {
        const next = this.#host.next()
        next.catch(() => {})
        const { positions, frontier, waiting } = this.#host.cut()
        this.#note(waiting)
        let sliceEnd = performance.now() + sliceMs
        this.#since ??= { at: performance.now(), records: sum(this.generation.processor.positions) }
        await replay(this.#host.log, this.generation, {
          ends: positions,
          frontier,
          atOnce: recordsPerSlice,
          pause: () => {
            if (this.#isStopping) return Promise.resolve('stop')
            const saving = this.#saveIfDue()
            if (saving) return saving
            if (performance.now() < sliceEnd) return undefined
            this.#measure()
            return this.#yield().then(() => {
              sliceEnd = performance.now() + sliceMs
            })
          },
        })
        if (this.#isStopping) return
        if (
          this.#state === 'deriving' &&
          isNear(this.generation.processor.positions, this.#host.cut().positions)
        ) {
          this.#state = 'following'
          this.#hasReached = true
          this.#reached.resolve()
          this.#host.changed()
        }
        await this.#orWoken(next)
        await this.#rest(restMs)
      }
    } catch (error) {
      if (this.#isStopping) return
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    this.#error =
      error instanceof HenceError
        ? error
        : new HenceError('reprocess-failed', 'operator', `Deriving again stopped: ${error}`, { cause: error })
    // Whoever goes on to a closed engine is told so by the engine.
    if (this.#error.code === 'engine-closed') return
    this.#state = 'failed'
    this.#reached.reject(this.#error)
    this.#reachAgain()
    this.#host.changed()
  }

  #reachAgain(): void {
    this.#hasReached = false
    this.#reached = Promise.withResolvers()
    this.#reached.promise.catch(() => {})
  }

  #note(waiting: Cut['waiting']): void {
    // Also when it has still to pass the control record that made another one live.
    const { processor } = this.generation
    for (const [target, events] of waiting.entries()) {
      for (const event of events) processor.noteRecorded(target, event)
    }
  }

  /** Lets others work; when somebody waits for the live generation, for as long as this one's share of the time allows. */
  #yield(): Promise<void> {
    if (!this.#host.isBusy()) return new Promise((resolve) => setImmediate(resolve))
    return this.#rest(Math.max(1, sliceMs * (1 / this.share - 1)))
  }

  /** Waits for a promise, or until `stop` wakes it. */
  #orWoken(promise: Promise<void>): Promise<void> {
    if (this.#isStopping) return Promise.resolve()
    const woken = Promise.withResolvers<void>()
    this.#wake = woken.resolve
    return Promise.race([promise, woken.promise]).finally(() => {
      this.#wake = undefined
    })
  }

  #rest(ms: number): Promise<void> {
    if (this.#isStopping) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        this.#wake = undefined
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#wake = done
    })
  }

  #saveIfDue(): Promise<void> | undefined {
    const { state } = this.generation
    const { checkpointRows } = this.#host
    if (this.#checkpoint) return state.dirtyCount > 4 * checkpointRows ? this.#checkpoint : undefined
    if (state.dirtyCount < checkpointRows) return undefined
    this.#checkpoint = this.generation.checkpoint().finally(() => {
      this.#checkpoint = undefined
    })
    this.#checkpoint.catch((error) => {
      this.#isStopping = true
      this.#fail(error)
    })
    return undefined
  }

  #measure(): void {
    const now = performance.now()
    const { at, records } = this.#since!
    if (now - at < 1_000) return
    const is = sum(this.generation.processor.positions)
    const speed = ((is - records) * 1_000) / (now - at)
    this.#perSecond = Math.round(this.#perSecond === undefined ? speed : (this.#perSecond + speed) / 2)
    this.#since = { at: now, records: is }
  }
}

/** Records that it may still be behind, to count as having caught up: there may be new ones all the time. */
const nearRecords = 1_000

function isNear(positions: readonly number[], ends: readonly number[]): boolean {
  return sum(ends) - sum(positions) <= nearRecords
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}

function isPaused(): HenceError {
  return new HenceError(
    'reprocess-paused',
    'change',
    'Deriving again is paused: let it go on with `resume` first.',
  )
}
