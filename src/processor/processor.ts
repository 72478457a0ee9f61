// This file is longer than 400 lines, because everything that moves a position stands here, so that it moves
// in one step.
import { assert } from '../assert.ts'
import { forgetResolved } from '../constraint/review.ts'
import type { Emission } from '../derivation/chain.ts'
import { type DerivationContext, derivationContext, recordContext } from '../derivation/context.ts'
import { CheckingDeriver } from '../derivation/divergence.ts'
import { Deriver } from '../derivation/step.ts'
import type { StepResult } from '../derivation/step-result.ts'
import { outcomeOf, type StoredOutcome } from '../derivation/stored-outcome.ts'
import type { Timers } from '../derivation/timers.ts'
import type { Outbox } from '../effect/outbox.ts'
import { type HenceError, operatorError } from '../failure.ts'
import { type ControlFact, factOf, liveOf, versionOf } from '../log/control-history.ts'
import type { Link } from '../log/log.ts'
import { partitionOf } from '../log/partitions.ts'
import type {
  ControlRecord,
  EventHead,
  EventRecord,
  FilledRecord,
  LogRecord,
  RequestRecord,
} from '../log/record.ts'
import type { Program } from '../sandbox/program.ts'
import { type DerivedAt, elapsedMs, type Interrupted, Interruption, interrupted } from '../sandbox/timed.ts'
import type { Collection } from '../state/cells.ts'
import { canonicalJson, type NamedEntries } from '../state/digest.ts'
import { encodeKey } from '../state/keys.ts'
import type { Pieces } from '../state/pieces.ts'
import type { State } from '../state/state.ts'
import type { TableState } from '../state/table.ts'
import { type Applied, appliedStep, mapped } from './applied.ts'
import { AppliedCorrections } from './applied-corrections.ts'
import { Channels } from './channels.ts'
import { type Checkpoint, checkCheckpoint, checkpointCodec, linksOf } from './checkpoint.ts'
import { Completion } from './completion.ts'
import { DerivedEventOrder } from './derived-order.ts'
import { type DueMessage, type EventOrder, eventOf, nameOf, type RecordedEvent } from './event-order.ts'
import { Outcomes } from './outcomes.ts'
import { Positions } from './positions.ts'
import { type Previewed, preview } from './preview.ts'
import { Rulings } from './rulings.ts'
import type { TracedDerivation } from './trace.ts'
import { Traces } from './traces.ts'
import { Watermarks } from './watermarks.ts'

/**
 * Applies the records of all partitions, one at a time and each partition in the order of its log: derives
 * them once, keeps their outcomes, and hands events on. A record that was just appended and one that is read
 * again after a crash are treated alike.
 */
export class Processor {
  readonly generation: number
  readonly partitions: number
  /** The effects that derivations have asked for. */
  readonly outbox: Outbox
  /** Timers that have not gone off. */
  readonly timers: Timers
  readonly traces: Traces
  readonly completion: Completion
  /** The events of the live generation that their targets have not applied; the log may hold them or not. */
  readonly channels: Channels
  readonly corrections: AppliedCorrections
  readonly rulings: Rulings
  readonly watermarks: Watermarks
  readonly #program: Program
  readonly #state: State
  readonly #tables: ReadonlyMap<string, TableState>
  readonly #logId: string
  readonly #lineage: readonly number[]
  readonly #context: DerivationContext
  readonly #recordContext: ReturnType<typeof recordContext>
  readonly #deriver: Pick<Deriver, 'derive'>
  readonly #outcomes: Outcomes
  readonly #checkpoints: Collection<Checkpoint>
  readonly #derivedOrder: DerivedEventOrder
  /** The one of the two that is in force at the positions. */
  #order: EventOrder
  readonly #positions: Positions
  /** The message being derived, if it has no place in the log. */
  #between: DueMessage['record'] | undefined
  #history: readonly ControlFact[] = []
  /** By partition: how many records of filled rows were applied after the last control record. */
  #filled: Readonly<Record<number, number>> = {}

  constructor(options: {
    readonly program: Program
    readonly state: State
    readonly tables: ReadonlyMap<string, TableState>
    readonly logId: string
    readonly partitions: number
    /** See `lineageOf`. */
    readonly lineage: readonly number[]
    readonly checked: boolean
    /** See `Channels`. */
    readonly heldBytes: number | undefined
  }) {
    const { program, state, tables, logId, partitions, lineage, checked, heldBytes } = options
    this.generation = lineage[0]!
    this.partitions = partitions
    this.#program = program
    this.#state = state
    this.#tables = tables
    this.#logId = logId
    this.#lineage = lineage
    this.watermarks = new Watermarks(partitions)
    const forgottenBefore = () => this.watermarks.last[this.#recordContext.partition]!.before
    this.#context = derivationContext(program, tables, checked, forgottenBefore)
    this.outbox = this.#context.outbox
    this.timers = this.#context.timers
    this.#recordContext = recordContext(
      state,
      logId,
      (key, partition) => partitionOf(key, partitions) === partition,
    )
    this.#deriver = checked
      ? new CheckingDeriver(program, tables, this.#context, this.#recordContext)
      : new Deriver(this.#context, this.#recordContext)
    this.#outcomes = new Outcomes(state)
    this.#checkpoints = state.collection('meta', checkpointCodec, false)
    this.traces = new Traces(state, partitions)
    this.rulings = new Rulings(partitions)
    this.#positions = new Positions(partitions)
    this.completion = new Completion(
      this.#positions.next,
      (request) =>
        this.channels.hasDropped &&
        this.traces.family(request).some((cause) => this.channels.hasDroppedFrom(cause)),
    )
    this.channels = new Channels(state, this.generation, partitions, this.completion, heldBytes)
    this.#derivedOrder = new DerivedEventOrder(
      ...([state, this.generation, partitions, this.channels, this.completion, heldBytes] as const),
    )
    this.#order = this.#orderInForce()
    this.corrections = new AppliedCorrections(lineage, partitions)
  }

  /** The offset of the record that a partition applies next. */
  position(partition: number): number {
    return this.#positions.next[partition]!
  }

  /** The offset of the record that each partition applies next. */
  get positions(): readonly number[] {
    return this.#positions.next
  }

  /** Log time of the latest record that was applied, in milliseconds since 1970. */
  get time(): number {
    return this.#positions.time
  }

  /** Log time of the last record of a partition that was applied. */
  timeOf(partition: number): number {
    return this.#positions.times[partition]!
  }

  /** By partition: the last batch that was derived from, with its place in the chain of hashes of the log. */
  get links(): readonly (Link | undefined)[] {
    return this.#positions.links
  }

  /** Records of a batch were applied, the first of them at least. */
  derivedFrom(partition: number, link: Link): void {
    this.#positions.links[partition] = link
  }

  /** The control records that were applied. */
  get history(): readonly ControlFact[] {
    return this.#history
  }

  /** Whether this generation is live at the positions: then its events stand in the log. */
  get isLive(): boolean {
    return this.#order === this.channels
  }

  /** The version of the code that derives the next records; undefined if no control record names it. */
  get version(): string | undefined {
    return versionOf(this.#history, this.generation)
  }

  /** The control record that brought a new table into force whose rows are not all there yet. */
  get filling(): (ControlFact & { readonly filled: readonly number[] }) | undefined {
    const fact = this.#history.at(-1)
    if (fact?.type !== 'version' || fact.generation !== this.generation || !fact.filled) return undefined
    const { filled } = fact
    return filled.some((count, partition) => this.filled(partition) < count) ? { ...fact, filled } : undefined
  }

  /** How many records of filled rows a partition has applied after the last control record. */
  filled(partition: number): number {
    return this.#filled[partition] ?? 0
  }

  /** The first offset from which the traces of a partition have all changes of rows that are read. */
  feedFrom(partition: number): number {
    if (!this.isLive) return Number.POSITIVE_INFINITY
    return Math.max(this.traces.completeFrom[partition]!, this.traces.keptFrom[partition]!)
  }

  /** The log time from which on the traces of all partitions have all changes of rows. */
  get changesSince(): number {
    const promoted = this.#history.findLast(({ type }) => type === 'promotion')?.at ?? 0
    // Older traces than the watermarks are forgotten.
    const isAll = this.traces.keptFrom.every((offset) => offset === 0)
    return isAll ? promoted : Math.max(promoted, this.watermarks.lowest)
  }

  /** Where an effect was asked for: an offset, and its number in the trace. Forgotten ones come first. */
  placeOf(effect: string): readonly [offset: number, nth: number] {
    const { key, rootPartition, rootOffset } = this.outbox.get(effect)!
    for (const at of this.traces.family({ partition: rootPartition, offset: rootOffset })) {
      if (at.partition !== partitionOf(key, this.partitions)) continue
      const asked = this.traces.get(at)?.derivations.flatMap(({ effects }) => effects) ?? []
      if (asked.includes(effect)) return [at.offset, asked.indexOf(effect)]
    }
    return [-1, 0]
  }

  /** Whether no message is under way between partitions. */
  get isDrained(): boolean {
    return this.completion.isEmpty && this.#order.isEmpty
  }

  /**
   * Takes the time of each derivation of the records to come, or ends that.
   * @param begins called before each derivation that runs the app's code
   */
  watch(isWatched: boolean, begins?: (at: DerivedAt, derivation: Interrupted) => void): void {
    this.#recordContext.isWatched = isWatched
    this.#recordContext.begins = begins && ((derivation) => begins(this.#at(), derivation))
    this.#recordContext.underWay = undefined
  }

  /** The interruption of the record that is being derived; if watched, of the derivation under way. */
  interruption(): Interruption {
    const { underWay } = this.#recordContext
    const interruption = new Interruption(
      'derivation-too-long',
      underWay && interrupted(underWay.derivation, underWay.n),
    )
    interruption.at = this.#at()
    if (underWay !== undefined) interruption.ms = elapsedMs() - underWay.since
    return interruption
  }

  readonly #at = (): DerivedAt => {
    const { partition, offset } = this.#recordContext
    return { partition, offset, ...(this.#between && { between: nameOf(this.#between) }) }
  }

  /** After an interruption: nothing in memory is used or saved from here on. */
  abandon(): void {
    this.#state.abandon()
  }

  /** How long the longest derivation of the last record took, in milliseconds, if it was watched. */
  get longestMs(): number {
    return this.#recordContext.longestMs
  }

  /** Whether a key waits for verdicts, and so much waits behind that no new request should be admitted. */
  isFull(key: string): boolean {
    return this.#context.waiting.isFull(key)
  }

  /** The stored outcome of a request, if it was applied and its id is still kept. */
  decided(identity: string): StoredOutcome | undefined {
    return this.#outcomes.get(identity)
  }

  /** The identities of the requests that reply to a request, an effect or a violation. */
  repliesTo(id: string): Iterable<string> {
    return this.#outcomes.repliesTo(id)
  }

  /**
   * Frees the space of what is older than the watermarks of all partitions: outcomes of ids that hold a time,
   * traces, effects that are done, and violations that are resolved. Results do not depend on it.
   * @param limit how many of each kind are forgotten at most
   */
  *forget(limit: number): Pieces {
    const before = this.watermarks.lowest
    if (before === 0) return
    const { violations, victims } = this.#context.constraints
    for (const work of [
      this.#outcomes.forget(before, limit),
      ...this.positions.map((_, partition) => this.traces.forget(partition, before, limit)),
      this.outbox.forget(this.#program.app.effects.keys(), before, limit),
      this.#context.earlyResults.forget(before, limit),
      forgetResolved(violations, victims, before, limit),
    ]) {
      for (const _ of work) {
        this.#state.commit()
        yield
      }
      this.#state.commit()
    }
  }

  /**
   * Applies the next record of a partition; for control records see `applyControl`.
   *
   * @returns `early` for an event whose cause has not been derived yet: then nothing was done
   * @throws HenceError `divergence`, `channel-gap`, `unknown-message`, `state-unreadable` (operator); then
   *   nothing of the record was applied. Interruption, which names the record; then no part of this
   *   generation may be used any more until it is reloaded
   */
  apply(partition: number, offset: number, time: number, record: LogRecord): Applied | 'early' {
    this.#positions.checkNext(partition, offset)
    const derived = this.#toDerive(partition, record)
    if (derived === 'early') return 'early'
    const ahead =
      record.kind === 'event' && derived.kind === 'event' ? this.#ahead(partition, record, time) : none
    this.#enter(partition, offset, time)
    let applied: Applied
    if (record.kind === 'filled') applied = this.#fill(partition, offset, time, record)
    // A record that derives nothing may still set timers off by its time.
    else if (derived === tick && this.timers.next(partition) > time)
      applied = nothing(partition, offset, time)
    else applied = this.#derive(derived)
    this.traces.finish(partition, offset, time)
    if (record.kind === 'event') {
      // Only now: if deriving throws, the order must be as it was, in case a checkpoint is taken.
      this.#order.passed(partition, record, derived.kind === 'event' ? derived : undefined)
    } else if (derived.kind === 'correction') {
      this.corrections.applied(partition, derived.correction.n)
    }
    if (record.kind === 'watermark') this.watermarks.apply(partition, time, record.watermark)
    this.#positions.next[partition]!++
    this.rulings.passed(partition, offset)
    this.#state.commit()
    if (record.kind === 'request') {
      this.completion.check(partition, offset)
      if (derived === tick) applied = this.#withRepeated(applied, record.identity)
    }
    if (derived.kind === 'event') this.completion.applied(derived.rootPartition, derived.rootOffset)
    return ahead.length === 0 ? applied : together([...ahead, applied])
  }

  /**
   * Applies a control record, which stands in all partitions.
   * @param at its offset and log time, by partition
   * @throws HenceError `divergence` (operator) if anything is under way
   */
  applyControl(
    { generation, control }: ControlRecord,
    at: readonly { readonly offset: number; readonly time: number }[],
  ): void {
    if (!this.isDrained) throw notDrained(control.number)
    assert(at.length === this.partitions, 'a control record stands in every partition', at.length)
    for (const [partition, { offset, time }] of at.entries()) {
      this.#positions.pass(partition, offset, time)
      this.traces.finish(partition, offset, time)
    }
    if (control.number >= this.#history.length) {
      assert(
        control.number === this.#history.length,
        'control records are numbered without gaps',
        control.number,
        this.#history.length,
      )
      this.#history = [...this.#history, factOf(generation, control, at)]
      this.#filled = {}
      if (control.type === 'promotion') this.#promoted()
    }
    this.#state.commit()
  }

  /**
   * Derives a request between two records, with what would follow, and undoes it; see `preview.ts`.
   * @param now log time, in milliseconds since 1970; no timer goes off
   */
  preview<Shown>(
    request: RequestRecord,
    key: string,
    now: number,
    show: (derivation: TracedDerivation, time: number) => Shown,
  ): Previewed<Shown> {
    const timeIn = (partition: number) =>
      Math.max(this.timeOf(partition), Math.min(now, this.timers.next(partition) - 1))
    const [context, recordContext] = [this.#context, this.#recordContext]
    return preview(request, key, { context, recordContext, positions: this.positions, timeIn }, show)
  }

  /** Passes a control record that stands in one partition twice. */
  passControl(partition: number, offset: number, time: number): void {
    this.#positions.pass(partition, offset, time)
  }

  /** Notes, for when this generation is not live, an event of the live one that its target has not passed. */
  noteRecorded(target: number, event: RecordedEvent): void {
    this.#derivedOrder.noteRecorded(target, event)
  }

  /** As `noteRecorded`, of an event in the log ahead, if it is of another generation. */
  noteAhead(target: number, event: EventHead): void {
    if (event.generation !== this.generation) this.#derivedOrder.noteAhead(target, event)
  }

  /** Takes over the events that were noted before other code took over. */
  takeRecorded(before: Processor): void {
    this.#derivedOrder.takeRecorded(before.#derivedOrder)
  }

  /**
   * Applies the messages that have no place in the log and come before a time; there are none while this
   * generation is live. All records up to the time of each must have been applied.
   * @param before log time, in milliseconds since 1970; infinity where everything under way must be applied
   * @param applied called with the results of each
   * @param max it ends with the round in which it has applied so many
   * @returns how many there were
   */
  applyDue(
    before: number,
    applied?: (applied: Applied) => void,
    max: number = Number.POSITIVE_INFINITY,
  ): number {
    const apply = (message: DueMessage) => {
      const results = this.#applyBetween(message)
      applied?.(results)
    }
    return this.#order.applyDue(before, this.#timeOf, apply, max)
  }

  /** Whether `applyDue` would apply anything. */
  isDue(before: number): boolean {
    return this.#order.isDue(before, this.#timeOf)
  }

  /** How many checkpoints' worth of changes, of so many rows, are in memory; bytes count too. */
  checkpointsDirty(rows: number): number {
    const waiting = this.channels.checkpointsDue + this.#derivedOrder.checkpointsDue
    return Math.max(this.#state.checkpointsDirty(rows), waiting)
  }

  /** Saves state and positions together. Nothing else may be under way in the state. */
  checkpoint(): Promise<void> {
    this.traces.flush()
    this.channels.flush()
    this.#derivedOrder.flush()
    this.#checkpoints.set('checkpoint', this.#saved())
    this.#state.commit()
    return this.#state.checkpoint()
  }

  /** Yields what is derived beside the rows: outcomes and traces that are kept, and channels' places. */
  *derived(): Iterable<NamedEntries> {
    const before = this.watermarks.lowest
    yield ['outcomes', this.#outcomes.kept(before)]
    yield ['traces', this.traces.kept(before)]
    yield ['position', this.#derivedPosition()]
  }

  *#derivedPosition(): Iterable<readonly [key: string, text: string]> {
    // They depend on checkpoints and batches, not on the log's records alone.
    const {
      tracesFrom: _t,
      feedFrom: _f,
      links: _l,
      channels,
      placing: _p,
      passed: _e,
      lineage: _,
      ...rest
    } = this.#saved()
    yield ['', canonicalJson(rest)]
    for (const ends of channels.map(canonicalJson).sort()) yield ['c', ends]
    for (const event of this.channels.underWay()) yield ['c', canonicalJson(event)]
    for (const text of this.#derivedOrder.texts()) yield ['c', text]
  }

  #saved(): Checkpoint {
    const { corrected, correctedCount } = this.corrections.save()
    return {
      logId: this.#logId,
      generation: this.generation,
      lineage: this.#lineage,
      version: this.#program.version,
      positions: [...this.#positions.next],
      time: this.#positions.time,
      channels: this.channels.save(),
      tracesFrom: [...this.traces.keptFrom],
      feedFrom: [...this.traces.completeFrom],
      times: [...this.#positions.times],
      links: this.#positions.links.map((link) =>
        link ? { offset: link.offset, hash: link.hash.toString('hex') } : null,
      ),
      watermarks: [...this.watermarks.last],
      history: this.#history,
      corrected,
      correctedCount,
      ...(Object.keys(this.#filled).length > 0 && { filled: this.#filled }),
      placing: this.#derivedOrder.save(),
      passed: this.#derivedOrder.passedEvents.save(),
      untraced: [...this.traces.untraced],
    }
  }

  restore(): void {
    const saved = this.#checkpoints.get('checkpoint')
    if (saved === undefined) return
    checkCheckpoint(saved, this.#logId, this.generation, this.partitions)
    this.#positions.restore(saved, linksOf(saved))
    this.#history = saved.history
    this.#filled = saved.filled ?? {}
    this.watermarks.restore(saved.watermarks)
    this.traces.restore(saved)
    this.corrections.restore(saved)
    this.channels.restore(saved.channels)
    this.#derivedOrder.restore(saved.placing)
    if (saved.passed) this.#derivedOrder.passedEvents.restore(saved.passed)
    this.#order = this.#orderInForce()
    for (const order of [this.channels, this.#derivedOrder])
      assert(order === this.#order || order.isEmpty, 'only the event order in force has messages under way')
    for (const { rootPartition, rootOffset } of this.#context.waiting.all()) {
      this.completion.emitted(rootPartition, rootOffset)
    }
  }

  #orderInForce(): EventOrder {
    return liveOf(this.#history) === this.generation ? this.channels : this.#derivedOrder
  }

  #promoted(): void {
    this.corrections.restart()
    this.#order = this.#orderInForce()
    // The traces lack what other code has changed in rows, so readers must read the tables again.
    this.traces.startFeed(this.#positions.next)
  }

  #enter(partition: number, offset: number, time: number, due?: DueMessage): void {
    const record = this.#recordContext
    record.partition = partition
    record.offset = offset
    record.time = time
    record.root = due?.root
    this.#between = due?.record
    record.rulings = this.rulings.on(this.#at, this.#program.version, this.generation)
    record.longestMs = 0
    this.#positions.reach(partition, time)
  }

  /** Returns what to derive: the record, this generation's event that belongs in its place, or `tick`. */
  #toDerive(partition: number, record: LogRecord): LogRecord | 'early' {
    if (record.kind === 'request') return this.#isRepeated(partition, record.identity) ? tick : record
    if (record.kind === 'correction') {
      return this.corrections.isNext(partition, record, this.#history) ? record : tick
    }
    if (record.kind === 'result' || record.kind === 'tick') return record
    if (record.kind !== 'event') return tick
    const isCauseDerived = this.#positions.next[record.causePartition]! > record.causeOffset
    return this.#order.arrive(partition, record, isCauseDerived) ?? tick
  }

  /** Whether a request was decided before, or may have been, so that it derives nothing. */
  #isRepeated(partition: number, identity: string): boolean {
    return this.watermarks.forgets(partition, identity) || this.#outcomes.has(identity)
  }

  /** The results of a request that is repeated. */
  #withRepeated(applied: Applied, identity: string): Applied {
    if (this.watermarks.forgets(applied.partition, identity)) return { ...applied, expired: identity }
    return { ...applied, decided: [...applied.decided, { identity, stored: this.decided(identity)! }] }
  }

  /** Applies the messages that come before an event and have no place in the log. */
  #ahead(partition: number, record: EventRecord, time: number): readonly Applied[] {
    const ahead: Applied[] = []
    this.#order.applyAhead(partition, record, time, (message) => ahead.push(this.#applyBetween(message)))
    return ahead
  }

  readonly #timeOf = (partition: number): number => this.#positions.times[partition]!

  /** Applies a message between the record before the position of its target and the one at it. */
  #applyBetween(message: DueMessage): Applied {
    const { target, time, record } = message
    this.#enter(target, this.#positions.next[target]!, time, message)
    const applied = this.#derive(record)
    this.#state.commit()
    if (record.kind === 'event') this.completion.applied(record.rootPartition, record.rootOffset)
    return applied
  }

  #derive(record: LogRecord): Applied {
    const { partition, offset, time } = this.#recordContext
    let step: StepResult
    try {
      step = this.#deriver.derive(record)
      for (const moved of step.moved) this.#move(moved)
    } catch (error) {
      if (error instanceof Interruption) error.at = this.#at()
      this.#state.undo(0)
      this.timers.forgetTaken()
      throw error
    }
    const emitted = mapped(step.outgoing, this.#send)
    const applied = appliedStep(this.#recordContext, step, emitted)
    for (const { identity, stored } of applied.decided) {
      // Whether a request was decided is looked up before it is derived, and here if a verdict decides it.
      if (record.kind === 'request' && record.identity === identity) {
        this.#outcomes.set(identity, outcomeOf(record, stored))
        continue
      }
      const before = this.decided(identity)
      assert(before?.outcome === undefined, 'a request is decided once', identity)
      this.#outcomes.set(identity, { fingerprint: '', ...before, ...stored })
    }
    if (record.kind === 'correction') this.#outcomes.correct(record)
    for (const { chain, isReleased } of step.parked) {
      if (isReleased) this.completion.applied(chain.rootPartition, chain.rootOffset)
      else this.completion.emitted(chain.rootPartition, chain.rootOffset)
    }
    this.traces.gather(partition, offset, time, applied.trace.derivations)
    return applied
  }

  /**
   * Takes rows of a new table, if this generation's code made them. No timer goes off before all of them are
   * there.
   */
  #fill(partition: number, offset: number, time: number, { generation, filled }: FilledRecord): Applied {
    const { control, n, table: name } = filled
    const isNext = control === this.#history.at(-1)?.number && n === this.filled(partition)
    if (generation !== this.generation || !isNext) return nothing(partition, offset, time)
    const table = this.#tables.get(name)!
    const rows = this.#program.realm.parseFrozen(
      JSON.stringify(filled.rows),
    ) as FilledRecord['filled']['rows']
    const changes = rows.map(([key, row]) => [name, encodeKey(key), null, row] as const)
    for (const [, key, , row] of changes) table.put(key, row, true)
    this.#filled = { ...this.#filled, [partition]: n + 1 }
    const root = { rootPartition: partition, rootOffset: offset }
    const nothingElse = { type: 'filled', key: '', events: none, effects: none, failure: undefined }
    const derivation = { kind: 'filled' as const, ...root, changes, ...nothingElse }
    this.traces.gather(partition, offset, time, [derivation])
    return { ...nothing(partition, offset, time), trace: { time, derivations: [derivation] } }
  }

  /** By this code a request or a result belongs to another partition than that of its record. */
  #move({ record, key }: StepResult['moved'][number]): void {
    const { partition, offset, time, root = { partition, offset } } = this.#recordContext
    const target = partitionOf(key, this.partitions)
    this.#order.move(partition, { time, target, partition, offset, record, root }, key)
    if (record.kind !== 'request') return
    // The request counts as known from here on: the same one again must not be derived as another.
    this.#outcomes.set(record.identity, outcomeOf(record, { ...root, outcome: undefined }))
  }

  readonly #send = (emission: Emission): Applied['emitted'][number] => {
    // The cause of what follows from a request that moved is its record, wherever it is derived.
    const { partition: source, time, root } = this.#recordContext
    const { partition, offset } = root ?? this.#recordContext
    const target = partitionOf(emission.key, this.partitions)
    const sent = eventOf(emission, this.generation, partition, offset)
    return { target, event: this.#order.send(source, target, sent, time) }
  }
}

/** Sets timers off, and nothing else. */
const tick: LogRecord = { kind: 'tick' }

function nothing(partition: number, offset: number, time: number): Applied {
  return { partition, offset, decided: none, emitted: none, trace: { time, derivations: none } }
}

const none: readonly never[] = []

/** The results of several messages at one position, in order. */
function together(all: readonly Applied[]): Applied {
  const last = all.at(-1)!
  return {
    ...last,
    decided: all.flatMap(({ decided }) => decided),
    emitted: all.flatMap(({ emitted }) => emitted),
    trace: { ...last.trace, derivations: all.flatMap(({ trace }) => trace.derivations) },
  }
}

function notDrained(number: number): HenceError {
  return operatorError(
    'divergence',
    `Control record ${number} comes while events are under way, and events before it must be applied first. ` +
      'The code has changed, or is not deterministic.',
  )
}
