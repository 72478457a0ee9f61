import type { KeyPart, Query, Row, TableChange } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { operatorTables, violations } from '../constraint/tables.ts'
import { correctionFor } from '../derivation/correction.ts'
import type { EffectRow, EffectState, EffectsQuery } from '../effect/outbox.ts'
import { effectState, effects } from '../effect/outbox.ts'
import { changeError } from '../failure.ts'
import { type Identity, identityOf, principalOf, requestIdOf, senderOf } from '../identity.ts'
import type { Log, Position } from '../log/log.ts'
import { partitionOf } from '../log/partitions.ts'
import { type CorrectionRecord, decodeRecord, type LogRecord, type RequestRecord } from '../log/record.ts'
import { otherRecord, RecordReader } from '../log/records-at.ts'
import type { Processor } from '../processor/processor.ts'
import type { Trace, TracedDerivation } from '../processor/trace.ts'
import type { Program } from '../sandbox/program.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { digest } from '../state/digest.ts'
import { decodeKey, encodeKey } from '../state/keys.ts'
import type { TableRow, TableState } from '../state/table.ts'
import { feed } from './feed.ts'
import { type ChangePlace, changesBack, isStep, type RowChange, type RowHistory } from './history.ts'
import { type JudgedReader, judgedReader } from './judged.ts'
import { type Past, pastOf } from './past.ts'
import { rowOf, rowsOf } from './rows.ts'
import type { Preview, Story, StoryChange, StoryCorrection, StoryReply, StoryStep } from './story.ts'

/** The rows that one record changed, and the position in the feed after it. */
export interface Changes {
  readonly position: string
  readonly changes: readonly TableChange[]
}

/** System messages name requests by their identity, whose form is internal. */
function withSender(data: { readonly identity?: string }): object {
  const { identity, ...rest } = data
  if (identity === undefined) return rest
  return { ...senderOf(identity), ...rest }
}

const repliesMax = 100

/** Reads the derived state. The values that it returns are objects of the main realm. */
export class Reader {
  readonly #program: Program
  readonly #tables: ReadonlyMap<string, TableState>
  readonly #processor: Processor
  readonly #records: RecordReader
  readonly judged: JudgedReader
  readonly past: Past

  constructor(program: Program, tables: ReadonlyMap<string, TableState>, processor: Processor, log: Log) {
    this.#program = program
    this.#tables = tables
    this.#processor = processor
    this.#records = new RecordReader(log)
    this.judged = judgedReader(tables)
    this.past = pastOf(processor, {
      shape: (name) => program.app.tables.get(name),
      table: (name) => this.#table(name),
      out: (name, row) => this.#out(name, row),
      timeOf: async ({ partition, offset }) => (await this.#record(partition, offset)).time,
    })
  }

  get(name: string, key: readonly KeyPart[]): unknown {
    const row = rowOf(this.#table(name), key)
    return row === undefined ? undefined : this.#out(name, row)
  }

  scan(name: string, query: Query, until?: (row: TableRow) => boolean): Row<KeyPart[], unknown>[] {
    const out = (value: unknown) => this.#out(name, value)
    return rowsOf(this.#table(name), query, until, out)
  }

  /** SHA-256 of the app's tables. */
  digest(): string {
    const tables = [...this.#program.app.tables.keys()].map((name) => this.#tables.get(name)!)
    return digest(tables)
  }

  async story(requestId: string, principal: string, bytesMax?: number): Promise<Story | undefined> {
    const identity = identityOf(requestId, principal)
    const decided = this.#processor.decided(identity)
    if (decided === undefined) return undefined
    const { partition, offset, outcome, corrected, inReplyTo } = decided
    const { traces } = this.#processor
    const steps: StoryStep[] = []
    const answerable = new Set([requestIdOf(identity)])
    let bytes = 0
    const add = (step: object) => {
      if (bytesMax === undefined) return
      bytes += Buffer.byteLength(JSON.stringify(step))
      if (bytes > bytesMax) throw storyTooLarge(requestId, bytesMax)
    }
    for (const at of traces.family(decided)) {
      const trace = traces.get(at)
      for (const derivation of trace?.derivations ?? []) {
        const { kind, rootPartition, rootOffset, violation } = derivation
        if (rootPartition !== partition || rootOffset !== offset) continue
        if (!isStep(kind)) continue
        if (violation !== undefined) answerable.add(violation)
        const step = this.#step({ ...derivation, kind }, `${at.partition}:${at.offset}`, trace!.time)
        steps.push(step)
        add(step)
      }
    }
    // From the last one back: each belongs to the last record before it that no later one belongs to.
    const taken = new Set<string>()
    for (const [i, step] of [...steps.entries()].reverse()) {
      if (step.kind !== 'correction') continue
      const correction = await this.#correction(step, decided, taken)
      steps[i] = { ...step, correction }
      add(correction)
    }
    const { record, time } = await this.request(partition, offset)
    return {
      ...senderOf(identity),
      type: record.type,
      input: JSON.parse(record.input),
      token: `${partition}:${offset}`,
      at: time,
      outcome,
      ...(corrected && { corrected }),
      ...(inReplyTo !== undefined && { inReplyTo }),
      replies: await this.#replies(identity, steps, answerable),
      steps: steps.sort((a, b) => a.at - b.at),
    }
  }

  /** The requests that replied to a request, its effects, or violations that it opened or lost a claim to. */
  async #replies(identity: Identity, steps: readonly StoryStep[], ids: Set<string>): Promise<StoryReply[]> {
    for (const { effects, events, changes } of steps) {
      for (const { id } of effects) ids.add(id)
      for (const { table, key, before } of changes) {
        if (table === violations.name && before === undefined) ids.add(key[1] as string)
      }
      for (const { type, data } of events) {
        const { violation } = (data ?? {}) as { violation?: unknown }
        if (isSystemMessage(type) && typeof violation === 'string') ids.add(violation)
      }
    }
    const replies: StoryReply[] = []
    for (const id of ids) {
      for (const reply of this.#processor.repliesTo(id)) {
        // Request ids are scoped by principal; other ids are unique.
        if (id === requestIdOf(identity) && principalOf(reply) !== principalOf(identity)) continue
        const { partition, offset } = this.#processor.decided(reply)!
        const { type } = (await this.request(partition, offset)).record
        replies.push({ inReplyTo: id, ...senderOf(reply), type, token: `${partition}:${offset}` })
        if (replies.length === repliesMax) return replies
      }
    }
    return replies
  }

  /** Changes of a row before a place, the last first: `limit` at most, out of the traces that are kept. */
  async history(
    name: string,
    key: readonly KeyPart[],
    before: ChangePlace | undefined,
    limit: number,
  ): Promise<RowHistory> {
    rowOf(this.#table(name), key) // It checks the key.
    const { partitions, positions, traces } = this.#processor
    const partition = partitionOf(key[0] as string, partitions)
    const [offset, end] = before ?? [positions[partition]!, Number.POSITIVE_INFINITY]
    const row = [name, encodeKey(key)] as const
    const { found, ...rest } = changesBack(traces, { partition, offset }, end, row, limit)
    const keptFrom = `${partition}:${traces.keptFrom[partition]}`
    const changes = found.map(async ({ place: [offset, nth], at, by, change }) => {
      const { before, after } = this.#row(change)
      const { record } = await this.#record(by.rootPartition, by.rootOffset)
      // A row that a promotion corrects follows from no request.
      const from = record.kind === 'control' ? record.control : record
      const identity = 'identity' in from ? from.identity : undefined
      const sender = identity && senderOf(identity)
      const { kind, type } = by as typeof by & Pick<RowChange, 'kind'>
      return { token: `${partition}:${offset}`, nth, at, kind, type, ...sender, before, after }
    })
    return { changes: await Promise.all(changes), keptFrom, ...rest }
  }

  /** Derives a request, with what would follow from it, and undoes it. */
  preview(request: RequestRecord, key: string, now: number): Preview {
    const { steps, ...rest } = this.#processor.preview(request, key, now, (derivation, time) => {
      const { kind } = derivation
      if (!isStep(kind)) return undefined
      const { token: _, ...step } = this.#step({ ...derivation, kind }, '', time)
      return step
    })
    return { ...rest, steps: steps.filter((step) => step !== undefined) }
  }

  async *changes(
    from: string | undefined,
    signal: AbortSignal | undefined,
    next: () => Promise<void>,
    withEffects: boolean,
  ): AsyncGenerator<Changes> {
    const { traces } = this.#processor
    const source = {
      positions: () => this.#processor.positions,
      keptFrom: (partition: number) => this.#processor.feedFrom(partition),
      traces: (partition: number, offset: number, limit: number) => traces.from({ partition, offset }, limit),
      next,
    }
    for await (const { position, partition, offset, trace } of feed(source, from, signal, withEffects)) {
      const changes = this.changesOf(partition, offset, trace)
      if (withEffects) changes.push(...(await this.#effectsOf(partition, offset, trace)))
      yield { position, changes }
    }
  }

  /** The effects that were asked for, redriven or ended with a record, in their present state. */
  async #effectsOf(partition: number, offset: number, { derivations }: Trace): Promise<TableChange[]> {
    const ids = new Set(derivations.flatMap(({ effects }) => effects))
    if (derivations.some(({ kind }) => kind === 'result')) {
      const { record } = await this.#record(partition, offset)
      if (record.kind === 'result') ids.add(record.effect)
    }
    const token = `${partition}:${offset}`
    return [...ids].flatMap((id) => {
      const after = this.effect(id)
      return after === undefined ? [] : { table: effects.name, key: [id], before: undefined, after, token }
    })
  }

  changesOf(partition: number, offset: number, { derivations }: Trace): TableChange[] {
    const token = `${partition}:${offset}`
    return derivations.flatMap(({ changes }) => this.#rows(changes).map((row) => ({ ...row, token })))
  }

  effect(id: string): EffectState | undefined {
    const row = this.#processor.outbox.get(id)
    return row && effectState(id, row)
  }

  effects({
    state,
    type,
    limit,
    from,
    until,
  }: Omit<EffectsQuery, 'state' | 'limit'> & Required<Pick<EffectsQuery, 'state' | 'limit'>>): EffectState[] {
    const rows = this.#processor.outbox.list(state, {
      limit,
      ...(type !== undefined && { type }),
      ...(from && { from: type === undefined ? [from.type, from.at, from.id] : [from.at, from.id] }),
      ...(until && { until: (id: string, row: EffectRow) => until(effectState(id, row)) }),
    })
    return rows.map(([id, row]) => effectState(id, row))
  }

  async request(partition: number, offset: number): Promise<{ record: RequestRecord; time: number }> {
    const { record, time } = await this.#record(partition, offset)
    if (record.kind === 'request') return { record, time }
    throw otherRecord(partition, offset, 'a request, since an outcome is stored for it')
  }

  async #record(partition: number, offset: number): Promise<{ record: LogRecord; time: number }> {
    const { bytes, time } = await this.#records.read(partition, offset)
    return { record: decodeRecord(bytes), time }
  }

  /**
   * The correction that was derived in a step of a request's story, and its promotion. It may have waited,
   * for example for a timer of its key: then its record stands before that of the step.
   */
  async #correction(step: StoryStep, root: Position, taken: Set<string>): Promise<StoryCorrection> {
    const [partition, last] = step.token.split(':').map(Number) as [number, number]
    let record: LogRecord | undefined
    const isIts = (found: LogRecord): found is CorrectionRecord =>
      found.kind === 'correction' &&
      found.correction.rootPartition === root.partition &&
      found.correction.rootOffset === root.offset &&
      found.correction.what.kind === step.type &&
      found.correction.key === step.key
    const { history } = this.#processor
    // No correction stands before the first promotion.
    const starts = history.map((fact) => (fact.type === 'promotion' ? fact.positions[partition]! : last))
    const first = Math.min(...starts)
    for (let offset = last; record === undefined && offset >= first; offset--) {
      if (taken.has(`${partition}:${offset}`)) continue
      const { record: found } = await this.#record(partition, offset)
      if (!isIts(found)) continue
      taken.add(`${partition}:${offset}`)
      record = found
    }
    const fact = record?.kind === 'correction' ? history[record.correction.promotion] : undefined
    if (fact?.type !== 'promotion') throw otherRecord(partition, last, 'a correction')
    const { number, at, generation, version, principal, requestId, diff, note } = fact
    const approved = { principal, requestId, diff, ...(note !== undefined && { note }) }
    const promotion = { number, at, generation, version, ...approved }
    const made = correctionFor((record as CorrectionRecord).correction)
    if (made.kind === 'outcome') return { promotion, kind: 'outcome', before: made.before, after: made.after }
    if (made.kind === 'effect') {
      return { promotion, kind: 'effect', effect: made.id, before: made.before, after: made.after }
    }
    throw otherRecord(partition, last, 'a correction of a request')
  }

  #step(derivation: TracedDerivation & Pick<StoryStep, 'kind'>, token: string, at: number): StoryStep {
    const { kind, type, key, changes, events, effects, failure } = derivation
    const dataOf = (type: string, data: unknown) =>
      isSystemMessage(type) ? withSender(data as object) : mainRealm.seal(data)
    return {
      ...{ token, at, kind, type, ...((key !== '' || failure === undefined) && { key }) },
      changes: this.#rows(changes),
      events: events.map(([type, key, data]) => ({ type, key, data: dataOf(type, data) })),
      effects: effects.flatMap((id) => this.effect(id) ?? []),
      failure,
    }
  }

  /** The changes of rows, but for tables that the code does not have any more. */
  #rows(changes: TracedDerivation['changes']): StoryChange[] {
    const { tables } = this.#program.app
    const isThere = (table: string) => tables.has(table) || operatorTables.has(table)
    return changes.flatMap((change) => (isThere(change[0]) ? this.#row(change) : []))
  }

  #row([table, key, before, after]: TracedDerivation['changes'][number]): StoryChange {
    return {
      table,
      key: decodeKey(this.#table(table).kinds, key).parts,
      before: before === null ? undefined : this.#out(table, before),
      after: after === null ? undefined : this.#out(table, after),
    }
  }

  #table(name: string): TableState {
    const { app } = this.#program
    if (app.tables.has(name) || operatorTables.has(name)) return this.#tables.get(name)!
    throw changeError(
      'unknown-table',
      `The app "${app.name}" has no table "${name}"; it has ${[...app.tables.keys()].join(', ')}.`,
    )
  }

  /** A row as a value of the main realm. Rows of system tables are, and may be larger than a value of the app. */
  #out(table: string, row: unknown): unknown {
    return operatorTables.has(table) ? row : mainRealm.seal(row)
  }
}

const storyTooLarge = (requestId: string, bytes: number) =>
  changeError(
    'story-too-large',
    `The steps of the request ${JSON.stringify(requestId)} take more than ${bytes} bytes as JSON. Read its ` +
      'rows and effects one by one.',
  )
