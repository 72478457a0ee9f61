import type { App, Enqueued, Query, ReadOptions, TableChange } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import { Auditor } from '../audit/auditor.ts'
import { Scrubber } from '../audit/scrubber.ts'
import { setAlarm, systemClock } from '../clock.ts'
import { Deliverer } from '../effect/delivery.ts'
import type { EffectEnd, EffectRow } from '../effect/outbox.ts'
import { engineClosed, HenceError } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import type { Codes } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { checkTakeOver } from '../generation/take-over-check.ts'
import { baseOf, lineageOf, liveOf, versionOf } from '../log/control-history.ts'
import { appendControl, findControls } from '../log/controls.ts'
import type { Log } from '../log/log.ts'
import { everyPartition, isEmpty, partitionOf } from '../log/partitions.ts'
import { decodeRecord, encodeCorrection, encodeEvent, encodeResult, encodeTick } from '../log/record.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import type { RecordedFailure } from '../processor/listener.ts'
import type { Processor } from '../processor/processor.ts'
import { replay } from '../processor/replay.ts'
import type { Trace } from '../processor/traces.ts'
import type { Changes, Reader } from '../query/reader.ts'
import type { Story } from '../query/story.ts'
import { printReport, type Reporter } from '../report.ts'
import { readManifest } from '../reprocess/manifest.ts'
import type { ControlFact, Reprocessing } from '../reprocess/reprocessing.ts'
import { Reprocessor } from '../reprocess/reprocessor.ts'
import { Admission } from '../request/admission.ts'
import { keptMsBeyondWindow, windowMsDefault } from '../request/window.ts'
import { type OutgoingRecord, PartitionWriter } from '../request/writer.ts'
import type { Storage } from '../storage/storage.ts'
import { type Audit, auditOf } from './audit.ts'
import { type Effects, effectsOf } from './effects.ts'
import type { Engine, EngineOptions, EngineStats } from './engine.ts'
import { type Violations, violationsOf } from './violations.ts'

/** How long tries of effects that are under way may go on when the engine closes, in milliseconds. */
const graceMs = 5_000

/** How many requests may wait while nothing is let in, for a promotion say. */
const heldMax = 100_000

/** An engine at work; `createEngine` makes it, and `Engine` says what it does. */
export class RunningEngine<A extends App> implements Engine<A> {
  readonly violations: Violations
  readonly effects: Effects
  readonly audit: Audit
  #app: A
  readonly #options: EngineOptions<A>
  readonly #codes: Codes
  readonly #storage: Storage
  readonly #log: Log
  readonly #generations: Reprocessor
  readonly #admission: Admission
  readonly #writers: readonly PartitionWriter[]
  #deliverer: Deliverer | undefined
  #auditor: Auditor | undefined
  #scrubber: Scrubber | undefined
  readonly #clock
  readonly #report: Reporter
  readonly #listeners = new Set<(changes: readonly TableChange[]) => void>()
  /** For how long outcomes and traces are kept at least. */
  readonly #keptMs: number
  /** Settles when the next record is applied. */
  #nextApplied: PromiseWithResolvers<void> | undefined
  /** When the next timer goes off, as far as an alarm is set for it. */
  #alarmAt = Number.POSITIVE_INFINITY
  #cancelAlarm = () => {}
  /** Partitions that a tick is on its way to. */
  readonly #ticking = new Set<number>()
  /** Set while nothing is let in. */
  #gate: PromiseWithResolvers<void> | undefined
  /** How many wait for it. */
  #held = 0
  readonly #checkpointer: Checkpointer
  #replayed = 0
  #closed: HenceError | undefined
  #closing: Promise<void> | undefined

  static async open<A extends App>(
    options: EngineOptions<A>,
    codes: Codes,
    storage: Storage,
  ): Promise<RunningEngine<A>> {
    const { log } = storage
    const host: GenerationHost = {
      log,
      openStore: (generation, collections, anew) => storage.openStore(generation, collections, anew),
      programOf: (version) => codes.programOf(version),
      checked: options.check ?? false,
    }
    const noted = await readManifest((name) => storage.kept(name))
    const noticed = await savedCheckpoint(host, noted.live)
    const history = await controlsOf(log, noticed)
    const live = liveOf(history)
    const saved = live === noted.live ? noticed : await savedCheckpoint(host, live)
    const version = versionOf(history, live) ?? saved?.version ?? codes.version
    const { onCodeChange = 'refuse' } = options
    if (version !== codes.version && onCodeChange === 'refuse') throw codeChanged(version, codes.version)
    if (codes.isSandboxed && history.length === 0 && saved === undefined && (await isEmpty(log))) {
      const control = { type: 'version' as const, number: 0, version }
      await appendControl(log, { generation: 0, control }, everyPartition(log))
    }
    const base = baseOf(history, live) ?? version
    const generation = await Generation.open(host, lineageOf(history, live), () => codes.programOf(base))
    let engine: RunningEngine<A> | undefined
    try {
      engine = new RunningEngine(options, codes, storage, host, generation)
      await engine.#openAudit(options)
      await engine.#recover()
      await engine.#generations.finishCorrections()
      if (version !== codes.version && onCodeChange === 'continue') await engine.#takeOver(version)
      await engine.#generations.restore(noted)
      if (version !== codes.version && onCodeChange === 'reprocess') await engine.#reprocess()
      engine.#startDelivery()
      engine.#ring()
      return engine
    } catch (error) {
      await (engine === undefined ? generation.close() : engine.#giveUp())
      throw error
    }
  }

  private constructor(
    options: EngineOptions<A>,
    codes: Codes,
    storage: Storage,
    generationHost: GenerationHost,
    live: Generation,
  ) {
    const { log } = storage
    this.#app = options.app
    this.#options = options
    this.#codes = codes
    this.#storage = storage
    this.#log = log
    this.#clock = options.clock ?? systemClock
    this.#report = options.report ?? printReport
    const { checkpointRows = 50_000 } = options
    const windowMs = options.windowMs ?? windowMsDefault
    this.#keptMs = windowMs + keptMsBeyondWindow
    this.#admission = new Admission(
      {
        clock: this.#clock,
        windowMs,
        queueBytesMax: options.queueBytesMax ?? 64 * 1024 * 1024,
      },
      {
        app: () => this.#app,
        write: (partition, draft) => this.#writers[partition]!.write(draft),
        partitionOf: (key) => partitionOf(key, log.partitions),
        decided: (identity) => this.#processor.decided(identity),
        read: async (partition, offset) => (await this.#reader.request(partition, offset)).record,
        logTime: () => this.#processor.time,
        closed: () => this.#closed,
      },
    )
    this.#writers = Array.from({ length: log.partitions }, (_, partition) => this.#writer(partition))
    this.#generations = new Reprocessor(
      { log, storage, codes, generationHost, live },
      {
        checkpointRows,
        next: () => this.#next(),
        isBusy: () => this.#admission.inFlight > 0,
        frontier: () => this.#frontier(),
        still: (act) => this.#still(act),
        stopDelivery: async () => {
          await this.#deliverer?.stop(graceMs)
          this.#deliverer = undefined
        },
        startDelivery: () => this.#startDelivery(),
        switched: (app) => this.#switched(app as A),
        write: (partition, record, bytes) => this.#writers[partition]!.write({ record, bytes }),
        idle: () => this.idle(),
        keptMs: this.#keptMs,
        halt: (error) => this.#halt(error),
        closed: () => this.#closed,
      },
    )
    this.#checkpointer = new Checkpointer(() => this.#live, {
      rows: checkpointRows,
      keptMs: this.#keptMs,
      failed: (error, isHopeless) => (isHopeless ? this.#halt(error) : this.#warn(error)),
    })
    live.listener = { failed: (failure) => this.#failed(failure) }
    const submit = (type: string, input: unknown, options: SubmitOptions) => this.submit(type, input, options)
    this.violations = violationsOf(() => ({ app: this.#live.program.app, reader: this.#reader }), submit)
    this.effects = effectsOf(
      () => this.#reader,
      (type, id) => this.#deliverer?.attempts(type, id),
      submit,
    )
    this.audit = auditOf(
      () => this.#auditor,
      (identity) => this.#processor.decided(identity),
    )
  }

  get app(): A {
    return this.#app
  }

  get reprocessing(): Reprocessing {
    return this.#generations
  }

  get #live(): Generation {
    return this.#generations.live
  }

  get #processor(): Processor {
    return this.#live.processor
  }

  get #reader(): Reader {
    return this.#live.reader
  }

  async #recover(): Promise<void> {
    this.#replayed = await replay(this.#log, this.#live, { pause: () => this.#checkpointer.saveIfDue() })
    // What the last process had no time to hand on is handed on now.
    for (const [partition, writer] of this.#writers.entries()) {
      for (const event of this.#processor.waitingFor(partition)) writer.writeEvent(event)
    }
    this.#listen()
  }

  /** Hears what the live generation derives. */
  #listen(): void {
    this.#live.listener = {
      failed: (failure) => this.#failed(failure),
      decided: (identity, decided) => this.#admission.decided(identity, decided),
      emitted: (target, event) => this.#writers[target]!.writeEvent(event),
      applied: (partition, offset, trace) => this.#applied(partition, offset, trace),
    }
  }

  #failed({ partition, offset, type, key, code, message }: RecordedFailure): void {
    this.#report({
      level: 'alarm',
      code: 'derivation-failed',
      message: `Record ${offset} of partition ${partition} (${type} ${JSON.stringify(key)}) failed with ${code}: ${message}`,
    })
  }

  /** New code derives what comes from here on; what the old one left under way it finishes. */
  async #takeOver(before: string): Promise<void> {
    const program = await this.#codes.programOf(this.#codes.version)
    program.close()
    await this.idle()
    await this.#live.checkpoint()
    checkTakeOver(this.#live.store, this.#live.program.app, program.app)
    const { version } = this.#codes
    const { number: generation } = this.#live
    const control = { type: 'version' as const, number: this.#processor.history.length, version, before }
    await appendControl(this.#log, { generation, control }, everyPartition(this.#log))
    await replay(this.#log, this.#live, { pause: () => undefined })
  }

  /** Derives everything again with the code that the engine was opened with, and makes that live. */
  async #reprocess(): Promise<void> {
    const { version } = this.#codes
    const { reprocessing } = this
    const status = await reprocessing.status()
    if (status !== undefined && status.version !== version) await reprocessing.discard()
    if (status?.version !== version) await reprocessing.start({ version }, { share: 1 })
    else if (status.state === 'paused' || status.state === 'failed') await reprocessing.resume()
    const { sha256: diff } = await reprocessing.diff()
    const requestId = `code-change-${this.#processor.history.length}-${version.slice(0, 12)}`
    await reprocessing.promote({ diff, note: 'onCodeChange: reprocess' }, { requestId })
  }

  /** Leaves what was opened, after a start that failed. */
  async #giveUp(): Promise<void> {
    for (const writer of this.#writers) writer.stop()
    this.#closed ??= engineClosed()
    await this.#generations.close(this.#closed)
    await this.#scrubber?.close()
    await this.#auditor?.close()
    await this.#live.close()
  }

  /** Another generation is live. */
  #switched(app: A): void {
    this.#app = app
    this.#listen()
    // Whoever follows the changes sees that they must read anew.
    this.#nextApplied?.resolve()
    this.#nextApplied = undefined
  }

  #startDelivery(): void {
    const { handlers } = this.#options
    // A promotion at the start has begun it: two would send everything twice.
    if (handlers === undefined || this.#closed || this.#deliverer !== undefined) return
    const known = Object.entries(handlers).filter(
      ([name]) => this.#app === this.#options.app || this.#app.effects.has(name),
    )
    this.#deliverer = new Deliverer(this.#app, Object.fromEntries(known) as never, {
      outbox: this.#processor.outbox,
      clock: this.#clock,
      random: this.#options.random ?? Math.random,
      report: this.#report,
      end: (id, row, end) => this.#endEffect(id, row, end),
    })
    this.#deliverer.start()
  }

  /** Lets nothing in and finishes what is under way, then acts; what comes meanwhile waits. */
  async #still<T>(act: () => Promise<T>): Promise<T> {
    while (this.#gate) await this.#gate.promise
    const gate = Promise.withResolvers<void>()
    this.#gate = gate
    try {
      await this.idle()
      await this.#checkpointer.saving
      if (this.#closed) throw this.#closed
      return await act()
    } finally {
      this.#gate = undefined
      gate.resolve()
      this.#ring()
    }
  }

  /** Acts now, or once things are let in again. */
  #whenOpen<T>(act: () => Promise<T>): Promise<T> {
    const gate = this.#gate
    if (gate === undefined) return act()
    if (this.#held >= heldMax) return Promise.reject(tooManyHeld())
    this.#held++
    return gate.promise.then(() => {
      this.#held--
      return this.#whenOpen(act)
    })
  }

  /** The least log time that a record to come may have: one is on its way since the last of its partition, or comes after all. */
  #frontier(): number {
    let frontier = this.#processor.time
    for (const [partition, writer] of this.#writers.entries()) {
      if (writer.busy) frontier = Math.min(frontier, this.#processor.timeOf(partition))
    }
    return frontier
  }

  async #openAudit({ audit = false, random }: EngineOptions<A>): Promise<void> {
    if (audit === false) return
    const publish = audit === true ? [] : [audit.publish].flat()
    const given = {
      log: this.#log,
      folder: this.#storage.audit,
      clock: this.#clock,
      report: this.#report,
    }
    this.#auditor = await Auditor.open({ ...given, publish, random })
    this.#scrubber = await Scrubber.open(given)
  }

  submit(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<never> {
    return this.#whenOpen(() => this.#admission.submit(type, input, requestId, principal)) as Promise<never>
  }

  enqueue(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<Enqueued> {
    return this.#whenOpen(() => this.#admission.enqueue(type, input, requestId, principal))
  }

  async story(
    requestId: string,
    { principal = '' }: { readonly principal?: string } = {},
  ): Promise<Story | undefined> {
    for (;;) {
      const reader = this.#reader
      try {
        return await reader.story(requestId, principal)
      } catch (error) {
        // Another generation is live since, and this one was closed.
        if (reader === this.#reader) throw error
      }
    }
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
    const live = this.#live
    const check = () => {
      if (this.#live !== live) throw otherIsLive()
    }
    const next = async () => {
      check()
      await this.#next()
      check()
    }
    try {
      for await (const changes of this.#reader.changes(options.from, options.signal, next)) {
        check()
        yield changes
      }
    } catch (error) {
      // What is not live any more is closed, perhaps while it is read.
      if (this.#live !== live) throw otherIsLive()
      if (error !== this.#closed) throw error
    }
  }

  position(): string {
    return this.#processor.positions.join('.')
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
      version: this.#live.program.version,
      generation: this.#live.number,
      applied: [...this.#processor.positions],
      inFlight: this.#admission.inFlight,
      queuedBytes: this.#admission.queuedBytes,
      dirtyRows: this.#live.state.dirtyCount,
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
    const { timers } = this.#processor
    const next = Math.min(...this.#writers.map((_, partition) => timers.next(partition)))
    return Number.isFinite(next) ? next : undefined
  }

  #oldestEffectAt(): number | undefined {
    const { outbox } = this.#processor
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
    this.#closed ??= engineClosed()
    this.#cancelAlarm()
    try {
      await this.#generations.close(this.#closed)
      await this.#deliverer?.stop(stopped ? 0 : graceMs)
      for (const writer of this.#writers) writer.finish()
      if (!stopped) await this.idle()
      for (const writer of this.#writers) writer.stop()
      this.#abandon(this.#closed)
      await this.#checkpointer.saving
      if (!stopped) await this.#live.checkpoint()
    } catch (error) {
      this.#warn(error)
    } finally {
      await this.#scrubber?.close().catch((error) => this.#warn(error))
      await this.#auditor?.close().catch((error) => this.#warn(error))
      await this.#live.close()
      await this.#storage.close()
    }
  }

  #writer(partition: number): PartitionWriter {
    let uncertain: OutgoingRecord[] = []
    return new PartitionWriter(partition, this.#log, {
      appended: (_, offset, time, drafts) => {
        for (const [i, { record }] of drafts.entries()) {
          this.#processor.apply(partition, offset + i, time, record)
          if (record.kind === 'result') this.#effectEnded(record.effect)
          else if (record.kind === 'tick') this.#ticking.delete(partition)
        }
        this.#ringAt(this.#processor.timers.next(partition))
        void this.#checkpointer.saveIfDue()
      },
      uncertain: (drafts, error) => {
        this.#warn(error)
        for (const draft of drafts) {
          uncertain.push(draft)
          if (draft.record.kind === 'request') this.#admission.uncertain(draft.record.identity, error)
        }
      },
      catchUp: async () => {
        await replay(this.#log, this.#live, {
          partitions: [partition],
          pause: () => this.#checkpointer.saveIfDue(),
        })
        const known = uncertain
        uncertain = []
        for (const draft of known) this.#certain(partition, draft)
        this.#ring()
      },
      waiting: () => [
        ...this.#processor.waitingFor(partition).map((record) => ({ record, bytes: encodeEvent(record) })),
        ...this.#generations
          .waitingFor(partition)
          .map((record) => ({ record, bytes: encodeCorrection(record) })),
      ],
      halt: (error) => this.#halt(error),
      room: () => this.#checkpointer.room,
    })
  }

  /** It is known now whether the log has a record whose append had failed. */
  #certain(partition: number, draft: OutgoingRecord): void {
    const { record } = draft
    if (record.kind === 'request') this.#admission.certain(record.identity)
    else if (record.kind === 'tick') this.#ticking.delete(partition)
    else if (record.kind === 'result') {
      const isLost = this.#processor.outbox.get(record.effect)?.state === 'pending'
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
    const draft = { record: decodeRecord(bytes), bytes }
    if (this.#gate) void this.#gate.promise.then(() => this.#writers[partition]!.write(draft))
    else this.#writers[partition]!.write(draft)
  }

  #effectEnded(id: string): void {
    const row = this.#processor.outbox.get(id)
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
    if (this.#gate) return
    const now = this.#admission.now()
    for (const [partition, writer] of this.#writers.entries()) {
      const next = this.#processor.timers.next(partition)
      if (next > now) {
        this.#ringAt(next)
      } else if (!this.#ticking.has(partition)) {
        this.#ticking.add(partition)
        writer.write({ record: { kind: 'tick' }, bytes: encodeTick() })
      }
    }
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
    this.#processor.completion.abandon(error)
    this.#nextApplied?.reject(error)
  }

  #warn(error: unknown): void {
    const code = error instanceof HenceError ? error.code : 'unexpected-error'
    this.#report({ level: 'warning', code, message: error instanceof Error ? error.message : String(error) })
  }

  async #reached(after: ReadOptions['after']): Promise<void> {
    if (after === undefined) return
    for (const token of typeof after === 'string' ? [after] : after) await this.#requestComplete(token)
  }

  async #requestComplete(token: string): Promise<void> {
    const [, partition, offset] = /^(\d{1,4}):(\d{1,16})$/.exec(token)?.map(Number) ?? []
    if (partition === undefined || offset === undefined || partition >= this.#log.partitions)
      throw badToken(token)
    const complete = this.#processor.completion.wait(partition, offset)
    if (complete === undefined) return
    if (offset >= (await this.#log.end(partition))) throw badToken(token)
    if (this.#closed) throw this.#closed
    await complete
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
          const row = this.#processor.outbox.get(id)
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

/** All control records of a log, those of a checkpoint and those behind it; one that a process could not finish is finished. */
async function controlsOf(log: Log, saved: Checkpoint | undefined): Promise<readonly ControlFact[]> {
  const known = saved?.history ?? []
  const from = saved?.positions ?? everyPartition(log).map(() => 0)
  let found = await findControls(log, from)
  if (found.unfinished) {
    await appendControl(log, found.unfinished.record, found.unfinished.missing)
    found = await findControls(log, from)
  }
  return [...known, ...found.facts.filter(({ number }) => number >= known.length)]
}

function codeChanged(before: string, now: string): HenceError {
  return new HenceError(
    'code-changed',
    'change',
    `The tables are derived by version ${before.slice(0, 12)} of the app's code, and this is version ${now.slice(0, 12)}. Nothing was touched. ` +
      'To go on from here with the new code, start with `--on-code-change continue`. To derive the past anew as well, start the old code and run ' +
      '`hence reprocess run`, which shows what differs before anything changes; or start with `--on-code-change reprocess`, which does not ask. ' +
      '(In code: `onCodeChange`.)',
  )
}

function tooManyHeld(): HenceError {
  return new HenceError(
    'overloaded',
    'retry',
    'Too many requests wait while another generation becomes live. Nothing was written: send the same request again a little later.',
  )
}

function otherIsLive(): HenceError {
  return new HenceError(
    'position-unknown',
    'change',
    'Another generation of the tables is live since, and what that changed in them is told to nobody row by row. ' +
      'Read the tables anew, and go on from the present position.',
  )
}

function badToken(token: string): HenceError {
  return new HenceError(
    'token-unknown',
    'change',
    `The token ${JSON.stringify(token)} names no record of this log; tokens come with the replies of submit.`,
  )
}
