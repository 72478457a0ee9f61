import { elapsed } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import { deriveTail, type TailHost } from '../generation/derive-tail.ts'
import type { Generation } from '../generation/generation.ts'
import type { Log } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { Ruling } from '../log/record.ts'
import { type Applied, failuresOf, type RecordedFailure } from '../processor/applied.ts'
import type { RecordedEvent } from '../processor/event-order.ts'
import type { ReplayOptions } from '../processor/replay.ts'
import type { Reporter } from '../report.ts'
import { candidatePaused, reprocessFailure } from './errors.ts'
import { type Foreground, Pace } from './pace.ts'

/** How far the candidate has come. */
export interface CandidateProgress {
  /** The version of its code. */
  readonly version: string
  /** `deriving`: catching up; `following`: caught up, and follows the log; `paused`; `failed`: see `error`. */
  readonly state: 'deriving' | 'following' | 'paused' | 'failed'
  /** Records derived. */
  readonly records: number
  /** Records per second, averaged over the last seconds; undefined unless it is deriving. */
  readonly perSecond?: number
  /** How many derivations have thrown since it was opened, and the last of them. */
  readonly failures: number
  readonly lastFailure?: RecordedFailure
  /** The share of the time that it works now, over 0 to 1. */
  readonly share: number
  readonly error?: { readonly code: string; readonly message: string }
}

export interface FollowerHost extends Foreground {
  readonly log: Log
  /** How far the live generation has come; if `beyond` is given, once it has applied a record behind that. */
  liveProgress(beyond?: readonly number[]): Promise<LiveProgress>
  /** How many records the live generation had applied at the last report. */
  liveRecords(): number
  /** The number of changed rows after which a checkpoint is due. */
  readonly checkpointRows: number
  /** Called when the state in `progress` has changed, so that the change can be stored. */
  changed(): void
  /**
   * Writes a ruling to the log, which then reads it.
   * @throws HenceError `derivation-too-long`, `derivation-too-large`, `derivation-too-deep` (operator) if the
   *   outcome by the same code may have been sent
   */
  rule(partition: number, ruling: Ruling): Promise<unknown>
  readonly report: Reporter
  /** Set if a process died while it derived the candidate. */
  readonly afterDeath?: Pick<TailHost, 'run' | 'deriveApart'> | undefined
}

/** How far the live generation has come, at one moment. */
export interface LiveProgress {
  /** By partition, the offset behind the last record applied. */
  readonly positions: readonly number[]
  /** Low watermark: no future record can have a smaller log time. */
  readonly lowWatermark: number
  /** By target partition: events that were emitted and not applied yet. */
  readonly inFlight: readonly (readonly RecordedEvent[])[]
}

/** The number of records between two checks whether the time slice is over. */
const recordsAtOnce = 8
/** Once it has caught up, it lets records gather for this long, in milliseconds. */
const restMs = 20

/** Derives a generation that is not live, beside the one that is, in slices of time. */
export class Follower {
  readonly #generation: Generation
  readonly #host: FollowerHost
  readonly #pace: Pace
  #state: CandidateProgress['state']
  #error: HenceError | undefined
  #running: Promise<void> | undefined
  #isStopping = false
  #failures = 0
  #lastFailure: RecordedFailure | undefined
  readonly #checkpointer: Checkpointer
  #measured: Measurement | undefined
  #perSecond: number | undefined
  #reached = silentPromise()
  /** Why it has ended for good. */
  #ended: HenceError | undefined
  #wake: (() => void) | undefined
  #afterDeath: FollowerHost['afterDeath']

  constructor(
    generation: Generation,
    host: FollowerHost,
    options: { readonly share: number; readonly paused: boolean },
  ) {
    this.#generation = generation
    this.#host = host
    this.#afterDeath = host.afterDeath
    this.#pace = new Pace(host, options.share)
    this.#state = options.paused ? 'paused' : 'deriving'
    this.#checkpointer = new Checkpointer(() => generation, {
      rows: host.checkpointRows,
      failed: (error) => {
        this.#isStopping = true
        this.#fail(error)
        throw error
      },
    })
  }

  readonly #countFailures = (applied: Applied): void => {
    for (const failure of failuresOf(applied)) {
      this.#failures++
      this.#lastFailure = failure
    }
  }

  /** The share of the time that it works. */
  set share(share: number) {
    this.#pace.share = share
  }

  get progress(): CandidateProgress {
    const perSecond = this.#state === 'deriving' ? this.#perSecond : undefined
    return {
      version: this.#generation.program.version,
      state: this.#state,
      records: this.#records,
      ...(perSecond && { perSecond }),
      failures: this.#failures,
      ...(this.#lastFailure && { lastFailure: this.#lastFailure }),
      share: this.#pace.share,
      ...(this.#error && { error: { code: this.#error.code, message: this.#error.message } }),
    }
  }

  start(): void {
    if (this.#running || this.#ended) return
    // It may be where the live generation is already, for example after a restart.
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

  async stop(): Promise<void> {
    this.#isStopping = true
    this.#pace.hurry()
    this.#wake?.()
    await this.#running
    // A checkpoint that fails is reported in `progress`.
    await this.#checkpointer.saving?.catch(() => {})
  }

  /** Resolves when it has caught up with the live generation; rejects when it failed, is paused or has ended. */
  async caughtUp(): Promise<void> {
    if (this.#ended) throw this.#ended
    if (this.#state === 'following' && this.#isNear()) return
    if (this.#error) throw this.#error
    if (this.#state === 'paused') throw candidatePaused()
    await this.#reached.promise
  }

  /** Applies exactly what the quiesced live generation has. Messages then in flight belong behind its end. */
  async align(live: LiveProgress): Promise<void> {
    await this.stop()
    await this.#derive(live, {
      pause: () => this.#checkpointer.saveIfDue(),
      stops: () => this.#ended !== undefined,
    })
    await this.#checkpointer.saving
  }

  /** Applies what the live generation has applied. */
  async #derive(
    { positions, lowWatermark: frontier, inFlight }: LiveProgress,
    { atOnce, ...options }: Pick<TailHost, 'pause' | 'stops'> & Pick<ReplayOptions, 'atOnce'>,
  ): Promise<void> {
    const { log, report, rule } = this.#host
    const generation = this.#generation
    const reloaded = () => this.#noteRecorded(inFlight)
    const host: TailHost = {
      ...{ log, report, passOn: this.#countFailures, candidate: { rule, reloaded } },
      ...{ ...options, ...this.#afterDeath, derived: () => generation },
    }
    reloaded()
    try {
      const until = { ends: positions, frontier, ...(atOnce && { atOnce }) }
      await deriveTail(host, { decided: positions.map(() => 0), until })
      if (!options.stops()) this.#afterDeath = undefined
    } catch (error) {
      // So that it can go on, or be saved, when its memory was interrupted.
      if (generation.state.isAbandoned) await generation.reload()
      throw error
    }
  }

  /** Ends it for good: pending and later calls of `caughtUp` reject with this reason. */
  end(reason: HenceError): void {
    this.#ended ??= reason
    this.#isStopping = true
    this.#pace.hurry()
    this.#wake?.()
    this.#reached.reject(this.#ended)
  }

  async #run(): Promise<void> {
    try {
      let live = await this.#orStopped(this.#host.liveProgress())
      while (live !== undefined) {
        const { positions } = live
        this.#pace.begin()
        this.#measured ??= this.#measurement()
        await this.#derive(live, {
          atOnce: recordsAtOnce,
          stops: () => this.#isStopping,
          pause: () => {
            if (this.#isStopping) return Promise.resolve('stop')
            const saving = this.#checkpointer.saveIfDue()
            if (saving) return saving
            const resting = this.#pace.rest()
            if (resting) this.#measure()
            return resting
          },
        })
        live = await this.#orStopped(this.#host.liveProgress())
        if (live === undefined || !this.#isNear()) continue
        this.#arrive()
        // Waits for a new record, then lets more of them gather, rather than waking up for each.
        if ((await this.#orStopped(this.#host.liveProgress(positions))) === undefined) return
        await this.#pace.sleep(restMs)
        live = await this.#orStopped(this.#host.liveProgress())
      }
    } catch (error) {
      if (this.#isStopping) return
      this.#fail(error)
    }
  }

  /** Whether it is close enough to count as caught up; the live generation may never stand still. */
  #isNear(): boolean {
    return this.#behind <= Math.max(nearRecords, ((this.#perSecond ?? 0) * nearMs) / 1_000)
  }

  /** How many records it is behind, according to the last report. */
  get #behind(): number {
    return this.#host.liveRecords() - this.#records
  }

  get #records(): number {
    return recordsBefore(this.#generation.processor.positions)
  }

  #arrive(): void {
    this.#reached.resolve()
    this.#reached = silentPromise()
    if (this.#state !== 'deriving') return
    this.#state = 'following'
    this.#host.changed()
  }

  #fail(error: unknown): void {
    this.#error = reprocessFailure(error, 'Deriving the candidate stopped')
    // A closed engine rejects every call with that error itself.
    if (this.#error.code === 'engine-closed') return
    this.#state = 'failed'
    this.#reached.reject(this.#error)
    this.#reached = silentPromise()
    this.#host.changed()
  }

  /** Registers events that the log will hold, also if this generation is still before their promotion. */
  #noteRecorded(inFlight: LiveProgress['inFlight']): void {
    const { processor } = this.#generation
    for (const [target, events] of inFlight.entries()) {
      for (const event of events) processor.noteRecorded(target, event)
    }
  }

  /** Resolves as the promise does, or to undefined once `stop` is called. */
  #orStopped<T>(promise: Promise<T>): Promise<T | undefined> {
    // After `stop` nobody awaits it any more, and it may still reject.
    promise.catch(() => {})
    if (this.#isStopping) return Promise.resolve(undefined)
    const stopped = Promise.withResolvers<undefined>()
    this.#wake = () => stopped.resolve(undefined)
    return Promise.race([promise, stopped.promise]).finally(() => {
      this.#wake = undefined
    })
  }

  /** Measures the speed, once a second. */
  #measure(): void {
    const before = this.#measured!
    const now = this.#measurement()
    const ms = now.at - before.at
    if (ms < 1_000) return
    this.#measured = now
    const speed = ((now.records - before.records) * 1_000) / ms
    this.#perSecond = Math.round(this.#perSecond === undefined ? speed : (this.#perSecond + speed) / 2)
  }

  #measurement(): Measurement {
    return { at: elapsed(this.#host.clock), records: this.#records }
  }
}

/** How many records it had applied at a time. */
interface Measurement {
  /** In milliseconds; see `Clock.elapsed`. */
  readonly at: number
  readonly records: number
}

/** It counts as caught up at most this many records behind, or as many as it derives in this time. */
const nearRecords = 1_000
const nearMs = 200

/** A promise that may reject without anybody awaiting it. */
function silentPromise(): PromiseWithResolvers<void> {
  const made = Promise.withResolvers<void>()
  made.promise.catch(() => {})
  return made
}
