import type { App, Enqueued, Query, ReadOptions, TableChange } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import { engineClosed } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import type { Generation } from '../generation/generation.ts'
import type { Changes } from '../query/reader.ts'
import { rowOf, rowsOf } from '../query/rows.ts'
import type { Story } from '../query/story.ts'
import type { Reprocessing } from '../reprocess/reprocessing.ts'
import type { Reprocessor } from '../reprocess/reprocessor.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { mainRealm } from '../sandbox/realm.ts'
import type { Storage } from '../storage/storage.ts'
import type { ViewFold } from '../view/fold.ts'
import type { Views } from '../view/views.ts'
import type { Audit, Auditing } from './audit.ts'
import { auditOf } from './audit.ts'
import { type Effects, effectsOf } from './effects.ts'
import type { Engine, EngineStats, RowScanOptions, StoryOptions } from './engine.ts'
import type { Health, HealthCheck } from './health.ts'
import { type LogRecords, logRecordsOf } from './log-records.ts'
import { completed } from './read-after.ts'
import type { RequestPath } from './request-path.ts'
import { type Violations, violationsOf } from './violations.ts'

/** An engine that was started; `Engine` documents its members, and `RequestPath` does the work. */
export class RunningEngine<A extends App> implements Engine<A> {
  readonly violations: Violations
  readonly effects: Effects
  readonly audit: Audit
  readonly log: LogRecords
  readonly reprocessing: Reprocessing
  readonly #path: RequestPath
  readonly #reprocessor: Reprocessor
  readonly #auditing: Auditing
  readonly #health: HealthCheck
  readonly #storage: Storage
  readonly #views: Views
  readonly #replayed: number
  /** The app with the views as they answer, for the app and the switches that it was made of. */
  #withViews: { readonly app: App; readonly of: App; readonly switches: number } | undefined
  #closing: Promise<void> | undefined

  /** @param parts.replayed how many records were replayed at the start */
  constructor(parts: {
    readonly path: RequestPath
    readonly reprocessor: Reprocessor
    readonly views: Views
    readonly auditing: Auditing
    readonly health: HealthCheck
    readonly storage: Storage
    readonly replayed: number
  }) {
    const { path, reprocessor, auditing } = parts
    this.#path = path
    this.#reprocessor = reprocessor
    this.#auditing = auditing
    this.#health = parts.health
    this.#storage = parts.storage
    this.#views = parts.views
    this.#replayed = parts.replayed
    this.reprocessing = reprocessor
    this.violations = violationsOf(path)
    this.effects = effectsOf(path)
    this.audit = auditOf(auditing, path)
    this.log = logRecordsOf(parts.storage.log, path)
  }

  get app(): A {
    const { app: of } = this.#path
    const { tables, switches } = this.#views
    if (tables.size === 0) return of as A
    if (this.#withViews?.of !== of || this.#withViews.switches !== switches) {
      const app = { ...of, tables: new Map([...of.tables, ...tables]) }
      this.#withViews = { app, of, switches }
    }
    return this.#withViews.app as A
  }

  submit(type: string, input: unknown, options: SubmitOptions): Promise<never> {
    return this.#path.submit(type, input, options) as Promise<never>
  }

  enqueue(type: string, input: unknown, options: SubmitOptions): Promise<Enqueued> {
    return this.#path.enqueue(type, input, options)
  }

  async get(table: string, key: readonly (string | number)[], { after }: ReadOptions = {}): Promise<never> {
    const live = await this.#completed(after)
    if (!this.#views.has(table)) return live.reader.get(table, key) as never
    const row = rowOf((await this.#view(table, after, live)).table, key)
    return (row && mainRealm.seal(row)) as never
  }

  async scan(table: string, query: Query = {}, { after, until }: RowScanOptions = {}): Promise<never> {
    const live = await this.#completed(after)
    if (!this.#views.has(table)) return live.reader.scan(table, query, until) as never
    const view = await this.#view(table, after, live)
    return rowsOf(view.table, query, until, (row) => mainRealm.seal(row)) as never
  }

  /** A view, once it has folded what a read must see. */
  #view(name: string, after: ReadOptions['after'], { processor }: Generation): Promise<ViewFold> {
    return this.#views.read(name, after === undefined ? undefined : [...processor.positions])
  }

  /** The live generation, once it has applied what a read must see. */
  async #completed(after: ReadOptions['after']): Promise<Generation> {
    const path = this.#path
    const tokens = Array.isArray(after) ? after : [after ?? []].flat()
    for (const token of tokens)
      await completed(token, this.#storage.log, async () => (await path.settled()).processor, path.closed)
    return path.settled()
  }

  async useViews(modules: readonly AppSource[]): Promise<void> {
    return this.#views.use(await Promise.all(modules.map((each) => bundleApp(each))))
  }

  async story(
    requestId: string,
    { principal = '', bytesMax }: StoryOptions = {},
  ): Promise<Story | undefined> {
    for (;;) {
      const { reader } = await this.#path.settled()
      try {
        return await reader.story(requestId, principal, bytesMax)
      } catch (error) {
        // Another generation became live, or this one started over, and what was read was closed.
        if (reader === this.#path.live.reader) throw error
      }
    }
  }

  subscribe(listener: (changes: readonly TableChange[]) => void): () => void {
    return this.#path.feed.subscribe(listener)
  }

  changes({
    from,
    signal,
  }: {
    readonly from?: string
    readonly signal?: AbortSignal
  } = {}): AsyncGenerator<Changes> {
    return this.#path.feed.read(() => this.#path.live, from, signal)
  }

  position(): string {
    return this.#path.live.processor.positions.join('.')
  }

  idle(): Promise<void> {
    return this.#path.idle()
  }

  async digest(): Promise<string> {
    return (await this.#path.settled()).reader.digest()
  }

  health(): Promise<Health> {
    return this.#health.health()
  }

  confirmClock(): void {
    this.#path.confirmClock()
  }

  stats(): EngineStats {
    const { live, load } = this.#path
    const { processor } = live
    return {
      logId: this.#storage.log.id,
      version: live.program.version,
      generation: live.number,
      applied: [...processor.positions],
      inFlight: load.inFlight,
      queuedBytes: load.queuedBytes,
      dirtyRows: live.state.dirtyCount,
      dirtyBytes: live.state.dirtyBytes,
      cacheBytes: live.state.cacheBytes,
      logTime: processor.time,
      nextTimerAt: this.#nextTimerAt(),
      oldestEffectAt: this.#oldestEffectAt(),
      scrubbedAt: this.#auditing.scrubbedAt,
      stateCheckedAt: this.#storage.states?.checkedAt(live.number),
      stateCheckProgress: this.#storage.states?.progress,
      headAt: this.#auditing.headAt,
      replayed: this.#replayed,
      views: this.#views.status(live),
      replies: { ...load.replies },
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
    this.#health.stop()
    path.close(engineClosed())
    const why = path.closed.reason
    try {
      await this.#views.close(why)
      await this.#reprocessor.close(why)
      await path.delivery.stop({ atOnce: hadStopped })
      if (!hadStopped) await path.drain()
      path.stop(why)
      await path.checkpointer.saving
      if (!hadStopped) await path.live.checkpoint()
    } catch (error) {
      path.warn(error)
    } finally {
      await this.#auditing.close().catch((error) => path.warn(error))
      await path.live.close()
      await this.#storage.close().catch((error) => {
        throw fileFailure(error) ?? error
      })
    }
  }
}
