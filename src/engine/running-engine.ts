import type { App, Enqueued, TableChange } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import { changeError, endAll, engineClosed } from '../failure.ts'
import { withFileFailure } from '../file-failure.ts'
import type { Changes } from '../query/reader.ts'
import type { Preview } from '../query/story.ts'
import type { Alarms } from '../report.ts'
import type { Reprocessing } from '../reprocess/reprocessing.ts'
import type { Reprocessor } from '../reprocess/reprocessor.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import type { Storage } from '../storage/storage.ts'
import type { MessageNames, MessagePage } from '../view/messages.ts'
import type { Views } from '../view/views.ts'
import type { Audit, Auditing } from './audit.ts'
import { auditOf } from './audit.ts'
import { type Effects, effectsOf } from './effects.ts'
import type { Engine, EngineStats } from './engine.ts'
import type { Health, HealthCheck } from './health.ts'
import { type LogRecords, logRecordsOf } from './log-records.ts'
import { completed, engineUnsure } from './read-after.ts'
import { Reads } from './reads.ts'
import type { RequestPath } from './request-path.ts'
import { type Violations, violationsOf } from './violations.ts'

interface EngineParts {
  readonly path: RequestPath
  readonly reprocessor: Reprocessor
  readonly views: Views
  readonly auditing: Auditing
  readonly health: HealthCheck
  readonly storage: Storage
  /** How many records were replayed at the start. */
  readonly replayed: number
  readonly alarms: Alarms
}

/** An engine that was started; `Engine` documents its members, and `RequestPath` does the work. */
export class RunningEngine<A extends App> extends Reads<A> implements Engine<A> {
  readonly violations: Violations
  readonly effects: Effects
  readonly audit: Audit
  readonly log: LogRecords
  readonly reprocessing: Reprocessing
  readonly #parts: EngineParts
  readonly #path: RequestPath
  #closing: Promise<void> | undefined

  constructor(parts: EngineParts) {
    const { path, reprocessor, auditing, views, storage } = parts
    super({
      views,
      storage,
      get live() {
        return path.live
      },
      settled: () => path.settled(),
      completed: (token) =>
        completed(
          token,
          storage.log,
          async () => (await path.settled()).processor,
          path.closed,
          () => this.ageMs,
        ),
    })
    this.#parts = parts
    this.#path = path
    this.reprocessing = reprocessor
    this.violations = violationsOf(path)
    this.effects = effectsOf(path)
    this.audit = auditOf(auditing, path)
    this.log = logRecordsOf(storage.log, path)
  }

  submit(type: string, input: unknown, options: SubmitOptions): Promise<never> {
    return this.#path.submit(type, input, options) as Promise<never>
  }

  enqueue(type: string, input: unknown, options: SubmitOptions): Promise<Enqueued> {
    return this.#path.enqueue(type, input, options)
  }

  preview(
    type: string,
    input: unknown,
    { principal = '' }: { readonly principal?: string } = {},
  ): Promise<Preview> {
    return this.#path.preview(type, input, principal)
  }

  async useViews(modules: readonly AppSource[]): Promise<void> {
    return this.#parts.views.use(await Promise.all(modules.map((each) => bundleApp(each))))
  }

  subscribe(listener: (changes: readonly TableChange[]) => void): () => void {
    if (typeof listener === 'function') return this.#path.feed.subscribe(listener)
    throw changeError('option-invalid', '`subscribe` needs a function that it calls with the changes.')
  }

  changes({
    from,
    signal,
    view,
    effects = false,
  }: {
    readonly from?: string
    readonly signal?: AbortSignal
    readonly view?: string
    readonly effects?: boolean
  } = {}): AsyncGenerator<Changes> {
    if (view !== undefined) return this.#parts.views.changes(view, from, signal)
    return this.#path.feed.read(() => this.#path.live, from, signal, effects)
  }

  viewPosition(view: string): Promise<string> {
    return this.#parts.views.position(view)
  }

  position(): string {
    return this.#path.live.processor.positions.join('.')
  }

  idle(): Promise<void> {
    return this.#path.idle()
  }

  async digest({ view }: { readonly view?: string } = {}): Promise<string> {
    const { reader, processor } = await this.#path.settled()
    return view === undefined ? reader.digest() : this.#parts.views.digest(view, [...processor.positions])
  }

  get ageMs(): number {
    return this.#parts.storage.carried?.note.doubtMs ?? 0
  }

  async health(): Promise<Health> {
    const health = await this.#parts.health.health()
    const { ageMs } = this
    if (!health.ready || ageMs === 0) return health
    const { code, message } = engineUnsure(ageMs)
    return { ready: false, code, message }
  }

  confirmClock(): void {
    this.#path.confirmClock()
  }

  async *messages({
    from,
    signal,
    ...names
  }: MessageNames & { readonly from?: string; readonly signal?: AbortSignal }): AsyncGenerator<MessagePage> {
    try {
      yield* this.#parts.views.messages(names, from, signal)
    } catch (error) {
      if (error !== this.#path.closed.reason) throw error
    }
  }

  stats(): EngineStats {
    const { path, storage, auditing, views, replayed, alarms } = this.#parts
    const { live, load } = path
    const { processor } = live
    return {
      logId: storage.log.id,
      version: live.program.version,
      generation: live.number,
      applied: [...processor.positions],
      inFlight: load.inFlight,
      queuedBytes: load.queuedBytes,
      waitingBytes: processor.channels.bytes,
      waitingBytesMax: path.waitingBytesMax,
      heldBytes: processor.channels.heldBytes,
      unwrittenMs: path.unwrittenMs,
      dirtyRows: live.state.dirtyCount,
      dirtyBytes: live.state.dirtyBytes,
      cacheBytes: live.state.cacheBytes,
      logTime: processor.time,
      pastSince: live.reader.past.since,
      nextTimerAt: this.#nextTimerAt(),
      oldestEffectAt: this.#oldestEffectAt(),
      scrubbedAt: auditing.scrubbedAt,
      rehearsedAt: auditing.rehearsedAt,
      stateCheckedAt: storage.states?.checkedAt(live.number),
      stateCheckProgress: storage.states?.progress,
      headAt: auditing.headAt,
      replayed,
      views: views.status(live),
      replies: { ...load.replies },
      alarms: alarms.last,
    }
  }

  #nextTimerAt(): number | undefined {
    if (!this.#path.isSettled) return undefined
    const { timers, partitions } = this.#path.live.processor
    let next = Number.POSITIVE_INFINITY
    for (let partition = 0; partition < partitions; partition++) next = Math.min(next, timers.next(partition))
    return Number.isFinite(next) ? next : undefined
  }

  #oldestEffectAt(): number | undefined {
    if (!this.#path.isSettled) return undefined
    const { outbox } = this.#path.live.processor
    const oldest = [...this.app.effects.keys()].flatMap((type) =>
      outbox.list('pending', { type, limit: 1 }).map(([, { at }]) => at),
    )
    return oldest.length > 0 ? Math.min(...oldest) : undefined
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const path = this.#path
    await path.closeIntake(engineClosed())
    const hadStopped = path.closed.aborted
    this.#parts.health.stop()
    path.close(engineClosed())
    const why = path.closed.reason
    try {
      await this.#parts.views.close(why)
      await this.#parts.reprocessor.close(why)
      await path.delivery.stop({ atOnce: hadStopped })
      try {
        if (!hadStopped) await path.drain()
      } finally {
        path.stop(why)
      }
      if (!hadStopped) await this.#parts.storage.release?.()
      await path.checkpointer.saving
      if (!hadStopped) await path.live.checkpoint()
    } catch (error) {
      // A record whose derivation does not end is left to the next start.
      if (path.isSettled) path.warn(error)
    } finally {
      await this.#parts.auditing.close().catch((error) => path.warn(error))
      await withFileFailure(endAll([() => path.live.close(), () => this.#parts.storage.close()]))
    }
  }
}
