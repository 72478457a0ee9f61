import type { App, Enqueued, Query, ReadOptions, TableChange } from './app/index.ts'
import { Auditor } from './audit/auditor.ts'
import type { Receipt } from './audit/receipt.ts'
import { Scrubber } from './audit/scrubber.ts'
import { setAlarm, systemClock } from './clock.ts'
import { collectionsFor, tablesFor } from './derivation/derived-state.ts'
import type { RedriveInput, ResolveInput } from './derivation/operator.ts'
import { Processor, partitionOf } from './derivation/processor.ts'
import type { Program } from './derivation/program.ts'
import { type Changes, Reader } from './derivation/reader.ts'
import { replay } from './derivation/replay.ts'
import type { Story } from './derivation/story.ts'
import type { Trace } from './derivation/traces.ts'
import { Deliverer } from './effect/delivery.ts'
import type { EffectEnd, EffectRow } from './effect/outbox.ts'
import type { Engine, EngineOptions, EngineStats, SubmitOptions } from './engine.ts'
import { HenceError } from './failure.ts'
import { identityOf } from './identity.ts'
import type { Log } from './log/log.ts'
import { decodeRecord, encodeResult, encodeTick } from './log/record.ts'
import { printReport, type Reporter } from './report.ts'
import { Admission } from './request/admission.ts'
import { keptMsBeyondWindow, windowMsDefault } from './request/window.ts'
import { type Draft, PartitionWriter } from './request/writer.ts'
import { State } from './state/state.ts'
import type { Storage } from './storage.ts'

/** How long tries of effects that are under way may go on when the engine closes, in milliseconds. */
const graceMs = 5_000

/** An engine at work; `createEngine` makes it, and `Engine` says what it does. */
export class RunningEngine<A extends App> implements Engine<A> {
  readonly app: A
  readonly reprocessing = undefined as never
  readonly #program: Program
  readonly #storage: Storage
  readonly #log: Log
  readonly #state: State
  readonly #processor: Processor
  readonly #reader: Reader
  readonly #admission: Admission
  readonly #writers: readonly PartitionWriter[]
  readonly #deliverer: Deliverer | undefined
  #auditor: Auditor | undefined
  #scrubber: Scrubber | undefined
  readonly #clock
  readonly #report: Reporter
  readonly #listeners = new Set<(changes: readonly TableChange[]) => void>()
  readonly #windowMs: number
  readonly #checkpointRows: number
  /** Settles when the next record is applied. */
  #nextApplied: PromiseWithResolvers<void> | undefined
  /** When the next timer goes off, as far as an alarm is set for it. */
  #alarmAt = Number.POSITIVE_INFINITY
  #cancelAlarm = () => {}
  /** Partitions that a tick is on its way to. */
  readonly #ticking = new Set<number>()
  #checkpointing: Promise<void> | undefined
  #checkpointAt: number
  #replayed = 0
  #closed: HenceError | undefined
  #closing: Promise<void> | undefined

  static async open<A extends App>(
    options: EngineOptions<A>,
    program: Program,
    storage: Storage,
  ): Promise<RunningEngine<A>> {
    const collections = collectionsFor(program)
    const begin = async (anew: boolean) => {
      const store = await storage.openStore(collections, anew)
      const engine = new RunningEngine(options, program, storage, new State(store))
      try {
        engine.#processor.restore()
        return engine
      } catch (error) {
        await engine.#state.close()
        throw error
      }
    }
    let engine: RunningEngine<A>
    try {
      engine = await begin(false)
    } catch (error) {
      const changed = error instanceof HenceError && error.code === 'code-changed'
      if (!changed || options.onCodeChange !== 'reprocess') throw error
      engine = await begin(true)
    }
    try {
      await engine.#audit(options)
      await engine.#recover()
    } catch (error) {
      await engine.#scrubber?.close()
      await engine.#auditor?.close()
      await engine.#state.close()
      throw error
    }
    return engine
  }

  private constructor(options: EngineOptions<A>, program: Program, storage: Storage, state: State) {
    const { log } = storage
    this.app = options.app
    this.#program = program
    this.#storage = storage
    this.#log = log
    this.#state = state
    this.#clock = options.clock ?? systemClock
    this.#report = options.report ?? printReport
    this.#windowMs = options.windowMs ?? windowMsDefault
    this.#checkpointRows = options.checkpointRows ?? 50_000
    this.#checkpointAt = this.#checkpointRows
    const tables = tablesFor(program, state)
    this.#processor = new Processor({
      program,
      state,
      tables,
      logId: log.id,
      partitions: log.partitions,
      checked: options.check ?? false,
    })
    this.#reader = new Reader(program, tables, this.#processor, log)
    this.#admission = new Admission(
      options.app,
      {
        clock: this.#clock,
        windowMs: this.#windowMs,
        queueBytesMax: options.queueBytesMax ?? 64 * 1024 * 1024,
      },
      {
        write: (partition, draft) => this.#writers[partition]!.write(draft),
        partitionOf: (key) => partitionOf(key, log.partitions),
        decided: (identity) => this.#processor.decided(identity),
        read: async (partition, offset) => (await this.#reader.request(partition, offset)).record,
        logTime: () => this.#processor.time,
        closed: () => this.#closed,
      },
    )
    this.#writers = Array.from({ length: log.partitions }, (_, partition) => this.#writer(partition))
    if (options.handlers !== undefined) {
      this.#deliverer = new Deliverer(options.app, options.handlers as never, {
        outbox: this.#processor.place.outbox,
        clock: this.#clock,
        random: options.random ?? Math.random,
        report: this.#report,
        end: (id, row, end) => this.#endEffect(id, row, end),
      })
    }
    this.#processor.listener = {
      failed: ({ partition, offset, type, key, code, message }) =>
        this.#report({
          level: 'alarm',
          code: 'derivation-failed',
          message: `Record ${offset} of partition ${partition} (${type} ${JSON.stringify(key)}) failed with ${code}: ${message}`,
        }),
    }
  }

  async #recover(): Promise<void> {
    const all = Array.from(this.#writers.keys())
    this.#replayed = await replay(this.#log, this.#processor, all, () => this.#saveIfDue())
    // What the last process had no time to hand on is handed on now.
    for (const partition of all) {
      for (const event of this.#processor.waitingFor(partition)) this.#writers[partition]!.writeEvent(event)
    }
    const { listener } = this.#processor
    this.#processor.listener = {
      ...listener,
      decided: (identity, decided) => this.#admission.decided(identity, decided),
      emitted: (target, event) => this.#writers[target]!.writeEvent(event),
      applied: (partition, offset, trace) => this.#applied(partition, offset, trace),
    }
    this.#ring()
    this.#deliverer?.start()
  }

  async #audit({ audit = false }: EngineOptions<A>): Promise<void> {
    if (audit === false) return
    const given = {
      log: this.#log,
      folder: this.#storage.audit,
      clock: this.#clock,
      report: this.#report,
    }
    this.#auditor = await Auditor.open({ ...given, ...(audit !== true && { publish: audit.publish }) })
    this.#scrubber = await Scrubber.open(given)
  }

  submit(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<never> {
    return this.#admission.submit(type, input, requestId, principal) as Promise<never>
  }

  enqueue(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<Enqueued> {
    return this.#admission.enqueue(type, input, requestId, principal)
  }

  async story(
    requestId: string,
    { principal = '' }: { readonly principal?: string } = {},
  ): Promise<Story | undefined> {
    return this.#reader.story(requestId, principal)
  }

  async receipt(
    requestId: string,
    { principal = '' }: { readonly principal?: string } = {},
  ): Promise<Receipt | undefined> {
    if (this.#auditor === undefined) {
      throw new HenceError(
        'audit-off',
        'change',
        'This engine signs no tree heads, so it gives no receipts: start it with the option `audit` (`hence start --audit`).',
      )
    }
    const decided = this.#processor.decided(identityOf(requestId, principal))
    return decided && this.#auditor.receipt(decided.partition, decided.offset)
  }

  async get(table: string, key: readonly (string | number)[], { after }: ReadOptions = {}): Promise<never> {
    await this.#reached(after)
    return this.#reader.get(table, key) as never
  }

  async scan(table: string, query: Query = {}, { after }: ReadOptions = {}): Promise<never> {
    await this.#reached(after)
    return this.#reader.scan(table, query) as never
  }

  subscribe(listener: (changes: readonly TableChange[]) => void): () => void {
    // The same function may listen twice, so what is kept is a function of its own.
    const heard = (changes: readonly TableChange[]) => listener(changes)
    this.#listeners.add(heard)
    return () => this.#listeners.delete(heard)
  }

  async *changes(
    options: { readonly from?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<Changes> {
    try {
      yield* this.#reader.changes(options.from, options.signal, () => this.#next())
    } catch (error) {
      if (error !== this.#closed) throw error
    }
  }

  position(): string {
    return this.#processor.positions.join('.')
  }

  violations({ state, limit = 100 }: Parameters<Engine<A>['violations']>[0] = {}) {
    return this.#reader.violations({ limit, ...(state !== undefined && { state }) })
  }

  violation(key: string, id: string) {
    return this.#reader.violation(key, id)
  }

  standing(constraint: string, key: string) {
    const definition = this.#program.app.constraints.get(constraint)
    if (definition === undefined) {
      throw new HenceError(
        'unknown-definition',
        'change',
        `The app "${this.app.name}" has no constraint "${constraint}"; it has ${[...this.app.constraints.keys()].join(', ')}.`,
      )
    }
    return this.#reader.standing(constraint, key) ?? { limit: definition.limit, claimed: 0 }
  }

  resolve(decision: ResolveInput, options: SubmitOptions): Promise<never> {
    return this.submit('hence:resolve-violation', decision, options)
  }

  effects({ state = 'pending', type, limit = 100 }: Parameters<Engine<A>['effects']>[0] = {}) {
    return this.#reader.effects({ state, limit, ...(type !== undefined && { type }) })
  }

  effect(id: string) {
    const effect = this.#reader.effect(id)
    const attempts = effect && this.#deliverer?.attempts(effect.type, id)
    return effect && (attempts === undefined ? effect : { ...effect, attempts })
  }

  redrive(input: RedriveInput, options: SubmitOptions): Promise<never> {
    return this.submit('hence:redrive', input, options)
  }

  async idle(): Promise<void> {
    // A partition that was drained may get events from one that was not.
    do await Promise.all(this.#writers.map((writer) => writer.drained()))
    while (this.#writers.some((writer) => writer.busy))
  }

  async digest(): Promise<string> {
    return this.#reader.digest()
  }

  stats(): EngineStats {
    return {
      logId: this.#log.id,
      version: this.#program.version,
      generation: 0,
      applied: [...this.#processor.positions],
      inFlight: this.#admission.inFlight,
      queuedBytes: this.#admission.queuedBytes,
      dirtyRows: this.#state.dirtyCount,
      logTime: this.#processor.time,
      nextTimerAt: this.#nextTimerAt(),
      oldestEffectAt: this.#oldestEffectAt(),
      scrubbedAt: this.#scrubber?.passedAt,
      headAt: this.#auditor?.head?.time,
      replayed: this.#replayed,
      replies: { ...this.#admission.replies },
    }
  }

  #nextTimerAt(): number | undefined {
    const { timers } = this.#processor.place
    const next = Math.min(...this.#writers.map((_, partition) => timers.next(partition)))
    return Number.isFinite(next) ? next : undefined
  }

  #oldestEffectAt(): number | undefined {
    const { outbox } = this.#processor.place
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
    const stopped = this.#closed
    this.#closed ??= new HenceError(
      'engine-closed',
      'retry',
      'The engine is closed. Send the same request to the next one.',
    )
    this.#cancelAlarm()
    try {
      await this.#deliverer?.stop(stopped ? 0 : graceMs)
      for (const writer of this.#writers) writer.finish()
      if (!stopped) await this.idle()
      for (const writer of this.#writers) writer.stop()
      this.#abandon(this.#closed)
      await this.#checkpointing
      if (!stopped) await this.#processor.checkpoint()
    } catch (error) {
      this.#warn(error)
    } finally {
      await this.#state.close()
      await this.#scrubber?.close().catch((error) => this.#warn(error))
      await this.#auditor?.close().catch((error) => this.#warn(error))
      await this.#storage.close()
      this.#program.close()
    }
  }

  #writer(partition: number): PartitionWriter {
    let uncertain: Draft[] = []
    return new PartitionWriter(partition, this.#log, {
      appended: (_, offset, time, drafts) => {
        for (const [i, { record }] of drafts.entries()) {
          this.#processor.apply(partition, offset + i, time, record)
          if (record.kind === 'result') this.#effectEnded(record.effect)
          else if (record.kind === 'tick') this.#ticking.delete(partition)
        }
        this.#ringAt(this.#processor.place.timers.next(partition))
        void this.#saveIfDue()
      },
      uncertain: (drafts, error) => {
        this.#warn(error)
        for (const draft of drafts) {
          uncertain.push(draft)
          if (draft.record.kind === 'request') this.#admission.uncertain(draft.record.identity, error)
        }
      },
      catchUp: async () => {
        await replay(this.#log, this.#processor, [partition], () => this.#saveIfDue())
        const known = uncertain
        uncertain = []
        for (const draft of known) this.#certain(partition, draft)
        this.#ring()
      },
      waitingEvents: () => this.#processor.waitingFor(partition),
      halt: (error) => this.#halt(error),
      room: () => (this.#state.dirtyCount > 4 * this.#checkpointRows ? this.#checkpointing : undefined),
    })
  }

  /** It is known now whether the log has a record whose append had failed. */
  #certain(partition: number, draft: Draft): void {
    const { record } = draft
    if (record.kind === 'request') this.#admission.certain(record.identity)
    else if (record.kind === 'tick') this.#ticking.delete(partition)
    else if (record.kind === 'result') {
      const isLost = this.#processor.place.outbox.get(record.effect)?.state === 'pending'
      if (isLost) this.#writers[partition]!.write(draft)
      else this.#effectEnded(record.effect)
    }
  }

  #endEffect(effect: string, row: EffectRow, end: EffectEnd): void {
    const { done, tries } = end
    const text = done ? JSON.stringify(end.result) : end.error
    const bytes = encodeResult({ kind: 'result', effect, done, tries, text })
    const partition = partitionOf(row.key, this.#log.partitions)
    // What is derived from is what a replay will read: bytes keep no half of a surrogate pair, nor any number of tries.
    this.#writers[partition]!.write({ record: decodeRecord(bytes), bytes })
  }

  #effectEnded(id: string): void {
    const row = this.#processor.place.outbox.get(id)
    if (row !== undefined) this.#deliverer?.ended(row.type, id)
  }

  /** Sees to it that timers go off at a time, also when no record comes by then. */
  #ringAt(time: number): void {
    if (time >= this.#alarmAt || this.#closed) return
    this.#cancelAlarm()
    this.#alarmAt = time
    this.#cancelAlarm = setAlarm(this.#clock, time, () => {
      this.#alarmAt = Number.POSITIVE_INFINITY
      if (!this.#closed) this.#ring()
    })
  }

  /** Brings the time to partitions with timers that are due. */
  #ring(): void {
    const now = this.#admission.now()
    for (const [partition, writer] of this.#writers.entries()) {
      const next = this.#processor.place.timers.next(partition)
      if (next > now) {
        this.#ringAt(next)
      } else if (!this.#ticking.has(partition)) {
        this.#ticking.add(partition)
        writer.write({ record: { kind: 'tick' }, bytes: encodeTick() })
      }
    }
  }

  /** Saves the state now and then; gives something to wait for only when memory would fill otherwise. */
  #saveIfDue(): Promise<void> | undefined {
    const { dirtyCount } = this.#state
    if (this.#checkpointing) return dirtyCount > 4 * this.#checkpointRows ? this.#checkpointing : undefined
    if (dirtyCount < this.#checkpointAt) return undefined
    this.#prune()
    this.#checkpointing = this.#processor
      .checkpoint()
      .then(() => {
        this.#checkpointAt = this.#checkpointRows
      })
      .catch((error) => {
        // The log has everything; but what cannot be saved fills the memory, so there is an end to it.
        this.#checkpointAt = this.#state.dirtyCount + this.#checkpointRows
        if (this.#checkpointAt > 32 * this.#checkpointRows) this.#halt(error)
        else this.#warn(error)
      })
      .finally(() => {
        this.#checkpointing = undefined
      })
    return undefined
  }

  #prune(): void {
    // By log time, which never goes back: a replay must still know what comes twice in an old log, and a clock that
    // is wrong for a while must not make an id that was decided a new one.
    const before = this.#processor.time - this.#windowMs - keptMsBeyondWindow
    this.#processor.forget(before, this.#checkpointRows)
  }

  #halt(error: unknown): void {
    // What closes need not be stopped; but it does not finish what was taken then, and says so.
    if (this.#closed) {
      this.#warn(error)
      return
    }
    const message = error instanceof Error ? error.message : String(error)
    this.#closed = new HenceError(
      'engine-stopped',
      'operator',
      `The engine has stopped, since going on could do harm: ${message} Nothing that was acknowledged is lost; ` +
        'mend the cause and start it again.',
      { cause: error },
    )
    for (const writer of this.#writers) writer.stop()
    void this.#deliverer?.stop(0)
    this.#report({ level: 'alarm', code: 'engine-stopped', message: this.#closed.message })
    this.#abandon(this.#closed)
  }

  /** Tells all who still wait for something. */
  #abandon(error: HenceError): void {
    this.#admission.abandon(error)
    this.#processor.abandon(error)
    this.#nextApplied?.reject(error)
  }

  #warn(error: unknown): void {
    const code = error instanceof HenceError ? error.code : 'unexpected-error'
    this.#report({ level: 'warning', code, message: error instanceof Error ? error.message : String(error) })
  }

  async #reached(after: ReadOptions['after']): Promise<void> {
    if (after === undefined) return
    for (const token of typeof after === 'string' ? [after] : after) await this.#settled(token)
  }

  async #settled(token: string): Promise<void> {
    const [, partition, offset] = /^(\d{1,4}):(\d{1,16})$/.exec(token)?.map(Number) ?? []
    if (partition === undefined || offset === undefined || partition >= this.#log.partitions)
      throw badToken(token)
    const settled = this.#processor.settled(partition, offset)
    if (settled === undefined) return
    if (offset >= (await this.#log.end(partition))) throw badToken(token)
    if (this.#closed) throw this.#closed
    await settled
  }

  #next(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed)
    this.#nextApplied ??= Promise.withResolvers()
    return this.#nextApplied.promise
  }

  #applied(partition: number, offset: number, trace: Trace): void {
    this.#nextApplied?.resolve()
    this.#nextApplied = undefined
    if (this.#deliverer) {
      for (const { effects } of trace.derivations) {
        for (const id of effects) {
          const row = this.#processor.place.outbox.get(id)
          if (row?.state === 'pending') this.#deliverer.asked(id, row)
        }
      }
    }
    if (this.#listeners.size === 0) return
    const changes = this.#reader.changesOf(partition, offset, trace)
    if (changes.length === 0) return
    for (const listener of this.#listeners) {
      try {
        listener(changes)
      } catch (error) {
        this.#warn(error)
      }
    }
  }
}

function badToken(token: string): HenceError {
  return new HenceError(
    'token-unknown',
    'change',
    `The token ${JSON.stringify(token)} names no record of this log; tokens come with the replies of submit.`,
  )
}
