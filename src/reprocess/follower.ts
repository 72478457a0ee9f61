import { HenceError } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import type { Generation } from '../generation/generation.ts'
import type { Log } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { RecordedEvent } from '../processor/event-order.ts'
import type { RecordedFailure } from '../processor/listener.ts'
import { replay } from '../processor/replay.ts'
import { type Foreground, Pace } from './pace.ts'

/** How far a generation is that is not live. */
export interface Progress {
  /** The version of its code. */
  readonly version: string
  /**
   * `deriving`: on its way; `following`: it has reached the end of the log, and follows; `paused`; `failed`: see `error`.
   */
  readonly state: 'deriving' | 'following' | 'paused' | 'failed'
  /** Records derived. */
  readonly records: number
  /** Records a second, lately; undefined when nothing is being derived. */
  readonly perSecond?: number
  /** Derivations that threw since it was opened, and the last of them. */
  readonly failures: number
  readonly lastFailure?: RecordedFailure
  /** How much of the time between live work it takes now. */
  readonly share: number
  readonly error?: { readonly code: string; readonly message: string }
}

/** What following needs of its surroundings. */
export interface FollowerHost extends Foreground {
  readonly log: Log
  /** How far the live generation is, at one moment; once it is further than these positions, if there are some. */
  cut(than?: readonly number[]): Promise<Cut>
  /** How many records the live generation has applied, as far as is known here. */
  applied(): number
  /** After so many changed rows the state is saved. */
  readonly checkpointRows: number
  /** How long outcomes and traces are kept at least, in milliseconds of log time. */
  readonly keptMs: number
  /** The state of it has changed in a way that should outlast this process. */
  changed(): void
}

/** How far the live generation is. */
export interface Cut {
  readonly positions: readonly number[]
  /** No record that is still to come has an earlier log time. */
  readonly frontier: number
  /** Events that were emitted and not applied yet, by target. */
  readonly waiting: readonly (readonly RecordedEvent[])[]
}

/** After so many records it looks whether its slice of the time is over. */
const recordsAtOnce = 8
/** So long it lets things gather when it has caught up, in milliseconds. */
const restMs = 20

/** A generation that is not live follows the log, beside the one that is, in slices of time. */
export class Follower {
  readonly generation: Generation
  readonly #host: FollowerHost
  readonly #pace: Pace
  #share: number | undefined
  #state: 'deriving' | 'following' | 'paused' | 'failed'
  #error: HenceError | undefined
  #running: Promise<void> | undefined
  #isStopping = false
  #failures = 0
  #lastFailure: RecordedFailure | undefined
  readonly #checkpointer: Checkpointer
  /** For the speed: when, and how many records had been applied by then. */
  #since: Measured | undefined
  #perSecond: number | undefined
  #reached = settlement()
  /** Why it never goes on. */
  #ended: HenceError | undefined
  #wake: (() => void) | undefined

  constructor(
    generation: Generation,
    host: FollowerHost,
    options: { readonly share: number | undefined; readonly paused: boolean },
  ) {
    this.generation = generation
    this.#host = host
    this.#share = options.share
    this.#pace = new Pace(host, options.share ?? shareMin)
    this.#state = options.paused ? 'paused' : 'deriving'
    this.#checkpointer = new Checkpointer(() => generation, {
      rows: host.checkpointRows,
      keptMs: host.keptMs,
      failed: (error) => {
        this.#isStopping = true
        this.#fail(error)
        throw error
      },
    })
    generation.listener = {
      failed: (failure) => {
        this.#failures++
        this.#lastFailure = failure
      },
    }
  }

  /** How much of the time it takes; undefined: it finds that out. */
  set share(share: number | undefined) {
    this.#share = share
    this.#pace.share = share ?? shareMin
  }

  get progress(): Progress {
    const perSecond = this.#state === 'deriving' ? this.#perSecond : undefined
    return {
      version: this.generation.program.version,
      state: this.#state,
      records: recordsBefore(this.generation.processor.positions),
      ...(perSecond && { perSecond }),
      failures: this.#failures,
      ...(this.#lastFailure && { lastFailure: this.#lastFailure }),
      share: this.#pace.share,
      ...(this.#error && { error: { code: this.#error.code, message: this.#error.message } }),
    }
  }

  /** Begins, or goes on after a pause or a failure. */
  start(): void {
    if (this.#running || this.#ended) return
    // One that stood still, or was closed, where the live one is has nothing to derive.
    this.#state = this.#behind > 0 ? 'deriving' : 'following'
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
    this.#pace.hurry()
    this.#wake?.()
    await this.#running
    // That one failed is in the status.
    await this.#checkpointer.saving?.catch(() => {})
  }

  /** Resolves when it has reached the live generation; rejects when it failed, or is ended. */
  async caughtUp(): Promise<void> {
    if (this.#ended) throw this.#ended
    if (this.#state === 'following' && this.#isNear()) return
    if (this.#error) throw this.#error
    if (this.#state === 'paused') throw isPaused()
    await this.#reached.promise
  }

  /**
   * Applies all that the live generation has applied, while that stands still. What is still under way in this one then
   * belongs behind records that may have the log time of the last one and are still to come.
   */
  async catchUp({ positions, frontier, waiting }: Cut): Promise<void> {
    await this.stop()
    this.#note(waiting)
    await replay(this.#host.log, this.generation, {
      ends: positions,
      frontier,
      pause: () => this.#checkpointer.saveIfDue(),
    })
    await this.#checkpointer.saving
  }

  /** It goes on no more, and whoever waits for it is told why. */
  end(why: HenceError): void {
    this.#ended ??= why
    this.#isStopping = true
    this.#pace.hurry()
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
      let cut = await this.#orWoken(this.#host.cut())
      while (cut !== undefined) {
        this.#note(cut.waiting)
        this.#pace.begin()
        this.#since ??= this.#measured()
        await replay(this.#host.log, this.generation, {
          ends: cut.positions,
          frontier: cut.frontier,
          atOnce: recordsAtOnce,
          pause: () => {
            if (this.#isStopping) return Promise.resolve('stop')
            const saving = this.#checkpointer.saveIfDue()
            if (saving) return saving
            const resting = this.#pace.rest()
            if (resting) this.#measure()
            return resting
          },
        })
        const { positions } = cut
        cut = await this.#orWoken(this.#host.cut())
        if (cut === undefined || !this.#isNear()) continue
        this.#arrive()
        // It takes what has gathered, and does not wake for each record.
        if ((await this.#orWoken(this.#host.cut(positions))) === undefined) return
        await this.#pace.sleep(restMs)
        cut = await this.#orWoken(this.#host.cut())
      }
    } catch (error) {
      if (this.#isStopping) return
      this.#fail(error)
    }
  }

  /** Whether it is about as far as the live generation, which may go on all the time. */
  #isNear(): boolean {
    return this.#behind <= Math.max(nearRecords, ((this.#perSecond ?? 0) * nearMs) / 1_000)
  }

  /** How many records it has still to apply, as far as is known. */
  get #behind(): number {
    return this.#host.applied() - recordsBefore(this.generation.processor.positions)
  }

  #arrive(): void {
    this.#reached.resolve()
    this.#reached = settlement()
    if (this.#state !== 'deriving') return
    this.#state = 'following'
    this.#host.changed()
  }

  #fail(error: unknown): void {
    this.#error = reprocessFailure(error, 'Deriving again stopped')
    // Whoever goes on to a closed engine is told so by the engine.
    if (this.#error.code === 'engine-closed') return
    this.#state = 'failed'
    this.#reached.reject(this.#error)
    this.#reached = settlement()
    this.#host.changed()
  }

  #note(waiting: Cut['waiting']): void {
    // Also when it has still to pass the control record that made another one live.
    const { processor } = this.generation
    for (const [target, events] of waiting.entries()) {
      for (const event of events) processor.noteRecorded(target, event)
    }
  }

  /** Waits for a promise, or until `stop` wakes it: then it gives undefined. */
  #orWoken<T>(promise: Promise<T>): Promise<T | undefined> {
    // It may fail when nobody waits for it any more.
    promise.catch(() => {})
    if (this.#isStopping) return Promise.resolve(undefined)
    const woken = Promise.withResolvers<undefined>()
    this.#wake = () => woken.resolve(undefined)
    return Promise.race([promise, woken.promise]).finally(() => {
      this.#wake = undefined
    })
  }

  /** Finds out its speed, once a second. */
  #measure(): void {
    const since = this.#since!
    const now = this.#measured()
    const ms = now.at - since.at
    if (ms < 1_000) return
    this.#since = now
    const derived = now.records - since.records
    const speed = (derived * 1_000) / ms
    this.#perSecond = Math.round(this.#perSecond === undefined ? speed : (this.#perSecond + speed) / 2)
    if (this.#share !== undefined) return
    const lead = derived / (now.live - since.live)
    if (lead < leadMin) this.#pace.share = Math.min(shareMax, this.#pace.share + shareStep)
    else if (lead > 2 * leadMin) this.#pace.share = Math.max(shareMin, this.#pace.share - shareStep)
  }

  #measured(): Measured {
    const { positions } = this.generation.processor
    return { at: performance.now(), records: recordsBefore(positions), live: this.#host.applied() }
  }
}

/** How many records both had applied at a time. */
interface Measured {
  readonly at: number
  readonly records: number
  readonly live: number
}

/**
 * Of the time between live work it takes a half, which doubles the time of live work at most where there is no time to spare. It
 * takes more while that is not enough to get ahead so many times as fast as the log grows: it must arrive.
 */
const shareMin = 0.5
const shareMax = 0.8
const shareStep = 0.05
const leadMin = 1.5

/** So many records, or what it derives in so many milliseconds, it may be behind and count as having caught up. */
const nearRecords = 1_000
const nearMs = 200

/** A promise that nobody need wait for. */
function settlement(): PromiseWithResolvers<void> {
  const made = Promise.withResolvers<void>()
  made.promise.catch(() => {})
  return made
}

/** What is told of an error: itself if it is one of Hence's own, or `reprocess-failed` (operator). */
export function reprocessFailure(error: unknown, what: string): HenceError {
  if (error instanceof HenceError) return error
  return new HenceError('reprocess-failed', 'operator', `${what}: ${error}`, { cause: error })
}

export function isPaused(): HenceError {
  return new HenceError(
    'reprocess-paused',
    'change',
    'Deriving again is paused: let it go on with `resume` first.',
  )
}
