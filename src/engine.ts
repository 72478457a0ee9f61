import type {
  App,
  Enqueued,
  KeyPart,
  Query,
  ReadOptions,
  Reply,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  Service,
  TableChange,
} from './app/index.ts'
import { type Clock, systemClock } from './clock.ts'
import { type Bundle, bundle } from './derivation/bundle.ts'
import { feed } from './derivation/feed.ts'
import { Processor, partitionOf } from './derivation/processor.ts'
import { inProcess, type Program, sandboxed } from './derivation/program.ts'
import { mainRealm } from './derivation/realm.ts'
import { replay } from './derivation/replay.ts'
import type { Story, StoryChange } from './derivation/story.ts'
import { type Trace, Traces } from './derivation/traces.ts'
import { HenceError } from './failure.ts'
import { identityOf, principalOf, requestIdOf } from './identity.ts'
import type { Log } from './log/log.ts'
import { decodeRecord, type RequestRecord } from './log/record.ts'
import { printReport, type Reporter } from './report.ts'
import { Admission } from './request/admission.ts'
import { keptMsBeyondWindow, windowMsDefault } from './request/window.ts'
import { PartitionWriter } from './request/writer.ts'
import { digest } from './state/digest.ts'
import { decodeKey, encodeKey } from './state/keys.ts'
import { State } from './state/state.ts'
import { collectionsOf, TableState } from './state/table.ts'
import { openDirectory, type Storage } from './storage.ts'

export interface EngineOptions<A extends App> {
  /** The app; its schemas validate inputs, its definitions give the types. */
  readonly app: A
  /**
   * Path or file URL of the pure module that exports the app as its default: derivations then run in a
   * sandbox that is made of it. Without it they run in the realm of the process, under guards.
   */
  readonly module?: string
  /** The directory of the log and of all that is derived from it; made when it is missing. */
  readonly data: string | Storage
  /** How many partitions a new log gets, 1 to 1,024; an existing log has what it has. Default 1. */
  readonly partitions?: number
  /** What to do when the code is not that which derived the tables. Default `refuse`. */
  readonly onCodeChange?: 'refuse' | 'rebuild'
  /** Dev mode: derive every record twice and compare, and hold rows against their schemas. Default false. */
  readonly check?: boolean
  /** How long a request id is taken after its making, in milliseconds. Default 30 days. */
  readonly windowMs?: number
  /** How many bytes of requests may wait for their outcome. Default 64 MiB. */
  readonly queueBytesMax?: number
  /** How many changed rows gather in memory before they are written to the state. Default 50,000. */
  readonly checkpointRows?: number
  /**
   * Wait until the process that has the directory has closed it, instead of `data-in-use`: a deploy is then a
   * hand-over. All that can be prepared without the directory is prepared before. Default false.
   */
  readonly wait?: boolean
  /** Ends that waiting: `createEngine` then throws the signal's reason. */
  readonly signal?: AbortSignal
  /** Hears what an operator should know. Default: warnings and alarms go to standard error. */
  readonly report?: Reporter
  readonly clock?: Clock
}

export interface SubmitOptions {
  /** Made by the client and stored before it is sent; see `identityOf` for its form. */
  readonly requestId: string
  /** Who sends it; ids of different principals are different ids. Default: the empty string. */
  readonly principal?: string
}

/** The rows that one record changed, and where a reading of changes goes on after it. */
export interface Changes {
  readonly position: string
  readonly changes: readonly TableChange[]
}

/** Takes requests, derives tables from them, and answers from the tables. */
export interface Engine<A extends App> extends Service<A> {
  /** The app that it was opened with. */
  readonly app: A
  /**
   * Sends a request; resolves when it is durable and decided. However often it is sent with one id, it is
   * derived once, and every reply is the first one.
   *
   * @throws HenceError with advice
   * - `retry` (the same id again): `overloaded`, `log-write-failed`, `engine-closed`
   * - `change`: `unknown-request`, `input-not-json`, `input-invalid`, `schema-unusable`, `key-invalid`,
   *   `key-too-long`, `value-too-large`, `request-id-invalid`, `principal-invalid`, `request-id-reused`,
   *   `request-id-expired`, `request-id-from-the-future`; nothing was written
   * - `operator`: `engine-stopped`, `log-damaged`
   */
  submit<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: SubmitOptions,
  ): Promise<Reply<RequestValue<A, N>, RequestReason<A, N>>>
  /**
   * Like `submit`, but resolves as soon as the request is durable; what becomes of it is told by `submit` with the
   * same id, and by `story`. Throws what `submit` throws.
   */
  enqueue<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: SubmitOptions,
  ): Promise<Enqueued>
  /** All that became of a request; undefined when its id is not known (any more). */
  story(requestId: string, options?: { readonly principal?: string }): Promise<Story | undefined>
  /**
   * Changed rows, record by record, from a position on (that record left out) and then as they come; without
   * a position from now on. It reads what is stored, so it may be slow, and may go on after a restart. Ends when
   * the signal aborts or the engine closes.
   * @throws HenceError `position-unknown` (change), when what came after the position is no longer kept
   */
  changes(options?: { readonly from?: string; readonly signal?: AbortSignal }): AsyncIterable<Changes>
  /** The present position: take it, read a table, and hear what changes from then on by `changes`. */
  position(): string
  /** Resolves when everything that was taken, with all events that follow, has been applied. */
  idle(): Promise<void>
  /** SHA-256 over all tables, in hexadecimal: equal tables have equal digests, however they came about. */
  digest(): Promise<string>
  /** How much there is. */
  stats(): EngineStats
  /** Takes nothing more, finishes what was taken, saves the state, and releases the directory. */
  close(): Promise<void>
}

export interface EngineStats {
  readonly logId: string
  /** The version of the code. */
  readonly version: string
  /** Records applied, by partition. */
  readonly applied: readonly number[]
  /** Requests that wait for their outcome, and their bytes. */
  readonly inFlight: number
  readonly queuedBytes: number
  /** Changed rows that wait for the next checkpoint. */
  readonly dirtyRows: number
  /** Log time of the last record, in milliseconds since 1970. */
  readonly logTime: number
  /** Records that were read again from the log when the engine started. */
  readonly replayed: number
  /** Replies since the start, by their outcome; `replayed` are those that were not the first. */
  readonly replies: Readonly<Record<'accepted' | 'rejected' | 'failed' | 'replayed', number>>
}

/**
 * Opens an engine: recovers the log, takes up the last checkpoint, derives what came after it, and is ready.
 *
 * @throws HenceError `data-in-use` (retry); `partitions-mismatch`, `code-changed`, `bundle-failed`,
 *   `app-mismatch`, `option-invalid` (change); `log-damaged`, `log-shorter-than-state`,
 *   `state-of-another-log`, `state-unreadable`, `divergence`, `unknown-message`, `data-unusable` (operator)
 */
export async function createEngine<A extends App>(options: EngineOptions<A>): Promise<Engine<A>> {
  const { module } = options
  checkOptions(options)
  return openEngine(options, module === undefined ? undefined : await bundle(module))
}

/**
 * What `createEngine` does once the module is bundled; for those who have the code of a version and perhaps not
 * its sources any more.
 */
export async function openEngine<A extends App>(
  options: EngineOptions<A>,
  code: Pick<Bundle, 'code' | 'hash'> | undefined,
): Promise<Engine<A>> {
  const { app, data, partitions, wait, signal, clock = systemClock, report = printReport } = options
  const program = code === undefined ? inProcess(app) : sandboxed(code)
  let storage: Storage | undefined
  try {
    checkSameApp(app, program.app)
    storage =
      typeof data === 'string'
        ? await openDirectory({ directory: data, partitions, clock, report, wait, signal })
        : data
    if (code) await storage.keepCode(code.hash, code.code)
    return await RunningEngine.open(options, program, storage)
  } catch (error) {
    program.close()
    await storage?.close()
    throw error
  }
}

class RunningEngine<A extends App> implements Engine<A> {
  readonly app: A
  readonly #program: Program
  readonly #storage: Storage
  readonly #log: Log
  readonly #state: State
  readonly #tables: ReadonlyMap<string, TableState>
  readonly #processor: Processor
  readonly #admission: Admission
  readonly #writers: readonly PartitionWriter[]
  readonly #report: Reporter
  readonly #listeners = new Set<(changes: readonly TableChange[]) => void>()
  /** Settles when the next record is applied. */
  #nextApplied: PromiseWithResolvers<void> | undefined
  readonly #windowMs: number
  readonly #checkpointRows: number
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
    const shapes = [...program.app.tables.values()]
    const collections = ['decided', 'failures', 'meta', ...Traces.collections, ...collectionsOf(shapes)]
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
      if (!changed || options.onCodeChange !== 'rebuild') throw error
      engine = await begin(true)
    }
    try {
      await engine.#recover()
    } catch (error) {
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
    this.#report = options.report ?? printReport
    this.#windowMs = options.windowMs ?? windowMsDefault
    this.#checkpointRows = options.checkpointRows ?? 50_000
    this.#checkpointAt = this.#checkpointRows
    const codec = {
      encode: (row: unknown) => JSON.stringify(row),
      decode: (text: string) => program.realm.parseFrozen(text),
    }
    this.#tables = new Map(
      [...program.app.tables].map(([name, shape]) => [name, new TableState(state, shape, codec)]),
    )
    this.#processor = new Processor({
      program,
      state,
      tables: this.#tables,
      logId: log.id,
      partitions: log.partitions,
      checked: options.check ?? false,
    })
    this.#admission = new Admission(
      options.app,
      {
        clock: options.clock ?? systemClock,
        windowMs: this.#windowMs,
        queueBytesMax: options.queueBytesMax ?? 64 * 1024 * 1024,
      },
      {
        write: (partition, draft) => this.#writers[partition]!.write(draft),
        partitionOf: (key) => partitionOf(key, log.partitions),
        decided: (identity) => this.#processor.decided(identity),
        read: async (partition, offset) => (await this.#readRequest(partition, offset)).record,
        logTime: () => this.#processor.time,
        closed: () => this.#closed,
      },
    )
    this.#writers = Array.from({ length: log.partitions }, (_, partition) => this.#writer(partition))
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
      emitted: (target, event) => this.#writers[target]!.writeEvent(event),
      applied: (partition, offset, trace) => this.#applied(partition, offset, trace),
    }
  }

  submit(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<never> {
    return this.#admission.submit(type, input, requestId, principal) as Promise<never>
  }

  enqueue(type: string, input: unknown, { requestId, principal = '' }: SubmitOptions): Promise<Enqueued> {
    return this.#admission.enqueue(type, input, requestId, principal)
  }

  async story(requestId: string, options: { readonly principal?: string } = {}): Promise<Story | undefined> {
    const identity = identityOf(requestId, options.principal ?? '')
    const decided = this.#processor.decided(identity)
    if (decided === undefined) return undefined
    const { traces } = this.#processor
    const steps: Story['steps'][number][] = []
    for (const place of traces.family(decided)) {
      const trace = traces.get(place)
      if (trace === undefined) continue
      const { time, kind, type, key, changes, events, failures } = trace
      steps.push({
        token: `${place.partition}:${place.offset}`,
        at: time,
        kind,
        type,
        key,
        changes: changes.map((change) => this.#rowOut(change)),
        events: events.map(([type, key, data]) => ({ type, key, data: this.#out(data) })),
        failures,
      })
    }
    steps.sort((a, b) => a.at - b.at)
    const { partition, offset, outcome } = decided
    const { record, time } = await this.#readRequest(partition, offset)
    return {
      requestId: requestIdOf(identity),
      principal: principalOf(identity),
      type: record.type,
      input: JSON.parse(record.input),
      token: `${partition}:${offset}`,
      at: time,
      outcome,
      steps,
    }
  }

  async get(table: string, key: readonly KeyPart[], { after }: ReadOptions = {}): Promise<never> {
    const { state, kinds } = this.#table(table)
    await this.#reached(after)
    const fits = key.length === kinds.length && key.every((part, i) => typeof part === kinds[i])
    if (!fits) {
      throw new HenceError(
        'key-invalid',
        'change',
        `A row of table "${table}" is named by [${kinds.join(', ')}], not by ${JSON.stringify(key)}.`,
      )
    }
    const row = state.get(encodeKey(key))
    return (row === undefined ? undefined : this.#out(row)) as never
  }

  async scan(table: string, query: Query = {}, { after }: ReadOptions = {}): Promise<never> {
    const { state } = this.#table(table)
    await this.#reached(after)
    return state.scan(query).map(({ key, value }) => ({ key, value: this.#out(value) })) as never
  }

  subscribe(listener: (changes: readonly TableChange[]) => void): () => void {
    // The same function may listen twice, so what is kept is a function of its own.
    const heard = (changes: readonly TableChange[]) => listener(changes)
    this.#listeners.add(heard)
    return () => this.#listeners.delete(heard)
  }

  async *changes({
    from,
    signal,
  }: {
    readonly from?: string
    readonly signal?: AbortSignal
  } = {}): AsyncGenerator<Changes> {
    const { traces } = this.#processor
    const source = {
      positions: () => this.#positions(),
      keptFrom: (partition: number) => traces.keptFrom[partition]!,
      traces: (partition: number, offset: number, limit: number) => traces.from({ partition, offset }, limit),
      next: () => this.#next(),
    }
    try {
      for await (const { position, partition, offset, trace } of feed(source, from, signal)) {
        yield { position, changes: this.#changesOut(partition, offset, trace) }
      }
    } catch (error) {
      if (error !== this.#closed) throw error
    }
  }

  position(): string {
    return this.#positions().join('.')
  }

  async idle(): Promise<void> {
    // A partition that was drained may get events from one that was not.
    do await Promise.all(this.#writers.map((writer) => writer.drained()))
    while (this.#writers.some((writer) => writer.busy))
  }

  async digest(): Promise<string> {
    return digest(this.#tables.values())
  }

  stats(): EngineStats {
    return {
      logId: this.#log.id,
      version: this.#program.version,
      applied: this.#positions(),
      inFlight: this.#admission.inFlight,
      queuedBytes: this.#admission.queuedBytes,
      dirtyRows: this.#state.dirtyCount,
      logTime: this.#processor.time,
      replayed: this.#replayed,
      replies: { ...this.#admission.replies },
    }
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
    try {
      if (!stopped) await this.idle()
      for (const writer of this.#writers) writer.stop()
      this.#admission.abandon(this.#closed)
      this.#nextApplied?.reject(this.#closed)
      await this.#checkpointing
      if (!stopped) await this.#processor.checkpoint()
    } catch (error) {
      this.#warn(error)
    } finally {
      await this.#state.close()
      await this.#storage.close()
      this.#program.close()
    }
  }

  #writer(partition: number): PartitionWriter {
    let uncertain: string[] = []
    return new PartitionWriter(partition, this.#log, {
      appended: (_, offset, time, drafts) => {
        for (const [i, { record }] of drafts.entries()) {
          const decided = this.#processor.apply(partition, offset + i, time, record)
          if (record.kind === 'request') this.#admission.decided(record.identity, decided as never)
        }
        void this.#saveIfDue()
      },
      uncertain: (drafts, error) => {
        this.#warn(error)
        for (const { record } of drafts) {
          if (record.kind !== 'request') continue
          uncertain.push(record.identity)
          this.#admission.uncertain(record.identity, error)
        }
      },
      catchUp: async () => {
        await replay(this.#log, this.#processor, [partition], () => this.#saveIfDue())
        for (const identity of uncertain) this.#admission.certain(identity)
        uncertain = []
      },
      waitingEvents: () => this.#processor.waitingFor(partition),
      halt: (error) => this.#halt(error),
      room: () => (this.#state.dirtyCount > 4 * this.#checkpointRows ? this.#checkpointing : undefined),
    })
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
    const before = this.#admission.now() - this.#windowMs - keptMsBeyondWindow
    this.#processor.forget(before, this.#checkpointRows)
  }

  #halt(error: unknown): void {
    if (this.#closed) return
    const message = error instanceof Error ? error.message : String(error)
    this.#closed = new HenceError(
      'engine-stopped',
      'operator',
      `The engine has stopped, since going on could do harm: ${message} Nothing that was acknowledged is lost; ` +
        'mend the cause and start it again.',
      { cause: error },
    )
    for (const writer of this.#writers) writer.stop()
    this.#report({ level: 'alarm', code: 'engine-stopped', message: this.#closed.message })
    this.#admission.abandon(this.#closed)
    this.#nextApplied?.reject(this.#closed)
  }

  #warn(error: unknown): void {
    const code = error instanceof HenceError ? error.code : 'unexpected-error'
    this.#report({ level: 'warning', code, message: error instanceof Error ? error.message : String(error) })
  }

  #table(name: string): { state: TableState; kinds: readonly ('string' | 'number')[] } {
    const state = this.#tables.get(name)
    const definition = this.#program.app.tables.get(name)
    if (state && definition) return { state, kinds: ['string', ...definition.parts] }
    throw new HenceError(
      'unknown-table',
      'change',
      `The app "${this.#program.app.name}" has no table "${name}"; it has ${[...this.#tables.keys()].join(', ')}.`,
    )
  }

  /** Values leave as objects of the process's own realm. */
  #out(row: unknown): unknown {
    return this.#program.realm === mainRealm ? row : mainRealm.seal(row)
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

  async #readRequest(partition: number, offset: number): Promise<{ record: RequestRecord; time: number }> {
    for await (const { offset: first, time, records } of this.#log.read(partition, offset)) {
      const record = decodeRecord(records[offset - first]!)
      if (record.kind === 'request') return { record, time }
      break
    }
    throw new HenceError(
      'log-damaged',
      'operator',
      `Record ${offset} of partition ${partition} should be a request, since an outcome is stored for it, and is not.`,
    )
  }

  #positions(): number[] {
    return this.#writers.map((_, partition) => this.#processor.position(partition))
  }

  #next(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed)
    this.#nextApplied ??= Promise.withResolvers()
    return this.#nextApplied.promise
  }

  #applied(partition: number, offset: number, trace: Trace): void {
    const next = this.#nextApplied
    this.#nextApplied = undefined
    next?.resolve()
    if (this.#listeners.size === 0 || trace.changes.length === 0) return
    const changes = this.#changesOut(partition, offset, trace)
    for (const listener of this.#listeners) {
      try {
        listener(changes)
      } catch (error) {
        this.#warn(error)
      }
    }
  }

  #changesOut(partition: number, offset: number, { changes }: Trace): TableChange[] {
    const token = `${partition}:${offset}`
    return changes.map((change) => ({ ...this.#rowOut(change), token }))
  }

  #rowOut([table, key, before, after]: Trace['changes'][number]): StoryChange {
    return {
      table,
      key: decodeKey(this.#table(table).kinds, key).parts,
      before: before === null ? undefined : this.#out(before),
      after: after === null ? undefined : this.#out(after),
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

function checkOptions({ partitions, windowMs, queueBytesMax, checkpointRows }: EngineOptions<App>): void {
  const check = (name: string, value: number | undefined, min: number, max: number) => {
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return
    throw new HenceError(
      'option-invalid',
      'change',
      `\`${name}\` must be a whole number from ${min} to ${max}, not ${value}.`,
    )
  }
  check('partitions', partitions, 1, 1024)
  check('windowMs', windowMs, 60_000, Number.MAX_SAFE_INTEGER)
  check('queueBytesMax', queueBytesMax, 1, Number.MAX_SAFE_INTEGER)
  check('checkpointRows', checkpointRows, 1, 10_000_000)
}

/** What validates and what derives must be the same app. */
function checkSameApp(given: App, loaded: App): void {
  const names = ({ name, requests, tables }: App) =>
    JSON.stringify([name, [...requests.keys()], [...tables.keys()]])
  if (names(given) === names(loaded)) return
  throw new HenceError(
    'app-mismatch',
    'change',
    `\`module\` exports the app "${loaded.name}", which is not the app "${given.name}" given as \`app\`: ` +
      'give the module that the app was imported from.',
  )
}
