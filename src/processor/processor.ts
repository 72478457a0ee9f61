import type { Outcome } from '../app/index.ts'
import { assert } from '../assert.ts'
import { forgetResolved } from '../constraint/judge.ts'
import type { Emission } from '../derivation/chain.ts'
import { type DerivationContext, derivationContext, type RecordContext } from '../derivation/context.ts'
import { CheckingDeriver } from '../derivation/divergence.ts'
import { Deriver } from '../derivation/step.ts'
import type { Failure, StepResult } from '../derivation/step-result.ts'
import {
  decodeStoredOutcome,
  derivedOutcome,
  encodeStoredOutcome,
  type StoredOutcome,
} from '../derivation/stored-outcome.ts'
import type { Timers } from '../derivation/timers.ts'
import type { Outbox } from '../effect/outbox.ts'
import { HenceError } from '../failure.ts'
import { identitiesBefore } from '../identity.ts'
import { type ControlFact, factOf, liveOf, versionOf } from '../log/control-history.ts'
import { partitionOf } from '../log/partitions.ts'
import type { ControlRecord, CorrectionRecord, EventRecord, LogRecord } from '../log/record.ts'
import type { Program } from '../sandbox/program.ts'
import type { Collection } from '../state/cells.ts'
import { canonicalJson } from '../state/digest.ts'
import type { State } from '../state/state.ts'
import type { TableState } from '../state/table.ts'
import { Channels } from './channels.ts'
import type { Checkpoint } from './checkpoint.ts'
import { type Due, Placing, type RecordedEvent } from './placing.ts'
import { type Trace, type TracedDerivation, Traces, traced } from './traces.ts'

/** A derivation that threw. */
export interface RecordedFailure extends Failure {
  readonly type: string
  readonly key: string
  readonly partition: number
  readonly offset: number
}

/** What the processor tells while it works; each may be left out. */
export interface ProcessorListener {
  /**
   * A request was applied that was decided now or before, or waits for its claims (`decided` without an outcome); or one
   * that waited is decided.
   */
  decided?(identity: string, decided: StoredOutcome): void
  /** An event for another partition was emitted. */
  emitted?(target: number, event: EventRecord): void
  /** A derivation threw. */
  failed?(failure: RecordedFailure): void
  /** A record was applied; the rows are those of the program's realm. */
  applied?(partition: number, offset: number, trace: Trace): void
}

/**
 * Applies the records of all partitions, one at a time and each partition in the order of its log: derives
 * them once, keeps their outcomes, and hands events on. It makes no difference to it whether a record has
 * just been appended or is read again after a crash.
 */
export class Processor {
  readonly partitions: number
  readonly #program: Program
  readonly #state: State
  readonly #logId: string
  readonly #context: DerivationContext
  /** As text, since hardly any is ever asked for again. */
  readonly #decided: Collection<string>
  readonly #meta: Collection<Checkpoint>
  readonly traces: Traces
  readonly #channels: Channels
  readonly #placing: Placing
  readonly #positions: number[]
  readonly #times: number[]
  readonly #record: Changing<RecordContext>
  readonly #deriver: Pick<Deriver, 'derive'>
  readonly generation: number
  readonly #lineage: readonly number[]
  /** Something is applied that has no place of its own in the log. */
  #isBetween = false
  #history: readonly ControlFact[] = []
  readonly #corrected: number[]
  #correctedCount = 0
  /** By partition: the first offset from which the traces tell all that became of rows. */
  readonly #feedFrom: number[]
  readonly #untraced: (readonly TracedDerivation[])[]
  /** Requests with events under way: how many. */
  readonly #unsettled = new Map<string, number>()
  readonly #waiters = new Map<string, PromiseWithResolvers<void>>()
  #time = 0
  listener: ProcessorListener = {}

  constructor(options: {
    readonly program: Program
    readonly state: State
    readonly tables: ReadonlyMap<string, TableState>
    readonly logId: string
    readonly partitions: number
    /** See `lineageOf`. */
    readonly lineage: readonly number[]
    readonly checked: boolean
  }) {
    const { program, state, tables } = options
    this.#lineage = options.lineage
    this.generation = options.lineage[0]!
    this.partitions = options.partitions
    this.#program = program
    this.#state = state
    this.#logId = options.logId
    this.#context = derivationContext(program, tables, options.checked)
    this.#decided = state.collection('decided', textCodec, false)
    this.#meta = state.collection('meta', jsonCodec<Checkpoint>(), false)
    this.traces = new Traces(state, options.partitions)
    this.#channels = new Channels(options.partitions)
    this.#placing = new Placing(options.partitions)
    this.#positions = new Array(options.partitions).fill(0)
    this.#times = new Array(options.partitions).fill(0)
    this.#corrected = new Array(options.partitions).fill(-1)
    this.#feedFrom = new Array(options.partitions).fill(0)
    this.#untraced = new Array(options.partitions).fill(none)
    this.#record = {
      logId: options.logId,
      partition: 0,
      offset: 0,
      time: 0,
      root: undefined,
      isHere: (key) => partitionOf(key, this.partitions) === this.#record.partition,
      mark: () => state.mark(),
      undo: (mark) => state.undo(mark),
      changes: (mark) => state.changes(mark),
    }
    this.#deriver = options.checked
      ? new CheckingDeriver(program, tables, this.#context, this.#record)
      : new Deriver(this.#context, this.#record)
  }

  /** The effects that derivations have asked for. */
  get outbox(): Outbox {
    return this.#context.outbox
  }

  /** Timers that have not gone off. */
  get timers(): Timers {
    return this.#context.timers
  }

  /** The offset of the record that a partition applies next. */
  position(partition: number): number {
    return this.#positions[partition]!
  }

  /** The offset of the record that each partition applies next. */
  get positions(): readonly number[] {
    return this.#positions
  }

  /** Log time of the latest record that was applied, in milliseconds since 1970. */
  get time(): number {
    return this.#time
  }

  /** Log time of the last record of a partition that was applied. */
  timeOf(partition: number): number {
    return this.#times[partition]!
  }

  /** The control records that were applied. */
  get history(): readonly ControlFact[] {
    return this.#history
  }

  /** Whether this generation is live at the positions: then its events stand in the log. */
  get isLive(): boolean {
    return liveOf(this.#history) === this.generation
  }

  /** The version of the code that derives what comes next; undefined when no record says so. */
  get version(): string | undefined {
    return versionOf(this.#history, this.generation)
  }

  /** The number of the last correction of the last promotion that a partition has applied, or -1. */
  corrected(partition: number): number {
    return this.#corrected[partition]!
  }

  /** The first offset from which the traces of a partition tell all that became of rows that somebody reads. */
  feedFrom(partition: number): number {
    if (!this.isLive) return Number.POSITIVE_INFINITY
    return Math.max(this.#feedFrom[partition]!, this.traces.keptFrom[partition]!)
  }

  /** How many corrections of the last promotion were applied. */
  get correctedCount(): number {
    return this.#correctedCount
  }

  /** Whether nothing is under way between partitions. */
  get isDrained(): boolean {
    return this.#unsettled.size === 0 && this.#placing.isEmpty
  }

  /** What a request came to, if it was decided and its id is still kept. */
  decided(identity: string): StoredOutcome | undefined {
    const text = this.#decided.get(identity)
    return text === undefined ? undefined : decodeStoredOutcome(text)
  }

  /**
   * Forgets outcomes of ids with a time in them that were made before a time, the traces of records that were
   * appended before it, effects that were asked for before it and done, and violations that were noticed before it and
   * resolved.
   * @param limit how many of each are forgotten at most, so that it is done piece by piece
   */
  forget(before: number, limit: number): void {
    const old: string[] = []
    for (const [identity] of this.#decided.range({ from: '7', to: identitiesBefore(before) })) {
      if (old.length >= limit) break
      old.push(identity)
    }
    for (const identity of old) this.#decided.delete(identity)
    for (let partition = 0; partition < this.partitions; partition++) {
      this.traces.forget(partition, before, limit)
    }
    this.#context.outbox.forget(this.#program.app.effects.keys(), before, limit)
    forgetResolved(this.#context.constraints.violations, before, limit)
    this.#state.commit()
  }

  /** Events that a partition's log must still get or has still to apply. */
  waitingFor(partition: number): EventRecord[] {
    return this.#channels.waitingFor(partition)
  }

  /**
   * Applies the next record of a partition; not a control record, see `applyControl`.
   *
   * @returns `early` for an event whose cause has not been derived yet: then nothing was done
   * @throws HenceError `divergence`, `channel-gap`, `unknown-message`, `state-unreadable` (operator); then
   *   nothing of the record was applied
   */
  apply(partition: number, offset: number, time: number, record: LogRecord): 'early' | undefined {
    this.#checkNext(partition, offset)
    const derived = this.#toDerive(partition, record)
    if (derived === 'early') return 'early'
    this.#at(partition, offset, time)
    // What derives nothing may set timers off all the same, by its time.
    if (derived !== tick || this.#context.timers.next(partition) <= time) this.#take(derived)
    this.#traceRest(partition, offset, time)
    if (record.kind === 'event') {
      // Now and not before: what threw must be found as it was, should a checkpoint be taken all the same.
      if (derived === record) this.#channels.applied(partition, record)
      else if (record.generation !== this.generation) this.#placing.pass(partition, record.id)
    } else if (derived.kind === 'correction') {
      this.#corrected[partition] = derived.correction.n
      this.#correctedCount++
    }
    this.#positions[partition]!++
    this.#state.commit()
    if (record.kind === 'request') {
      this.#settle(partition, offset)
      if (derived === tick) this.listener.decided?.(record.identity, this.decided(record.identity)!)
    }
    if (derived.kind === 'event') this.#leave(derived)
    return undefined
  }

  /**
   * Applies a control record, which stands in all partitions: nothing may be under way.
   * @param places where it stands, by partition
   */
  applyControl(
    { generation, control }: ControlRecord,
    places: readonly { readonly offset: number; readonly time: number }[],
  ): void {
    if (!this.isDrained) throw unstill(control.number)
    for (const [partition, { offset, time }] of places.entries()) {
      this.#checkNext(partition, offset)
      this.#traceRest(partition, offset, time)
      this.#pass(partition, time)
    }
    if (control.number >= this.#history.length) {
      this.#history = [...this.#history, factOf(generation, control, places)]
      if (control.type === 'promotion') {
        this.#corrected.fill(-1)
        this.#correctedCount = 0
        if (this.isLive) this.#placing.forgetRecorded()
        // What other code has changed in rows stands in no trace: whoever follows the changes reads anew.
        for (const [partition, position] of this.#positions.entries()) this.#feedFrom[partition] = position
      }
    }
    this.#state.commit()
  }

  /** Passes a control record that stands in one partition twice. */
  passControl(partition: number, offset: number, time: number): void {
    this.#checkNext(partition, offset)
    this.#pass(partition, time)
  }

  /** Notes, for a generation that is not live, that the live one's event stands behind the position of its target. */
  noteRecorded(target: number, event: RecordedEvent): void {
    this.#placing.noteRecorded(target, event)
  }

  /**
   * Applies, for a generation that is not live, the messages that have no place of their own in the log and come before a
   * time: all records up to the time of each must have been applied.
   * @returns how many there were
   */
  applyDue(before: number): number {
    let count = 0
    if (before === Number.POSITIVE_INFINITY) this.#placing.releaseWaiting(this.#time)
    for (let due = this.#placing.take(before); due !== undefined; due = this.#placing.take(before)) {
      const { target, time, record, root } = due
      this.#at(target, this.#positions[target]!, time, root)
      this.#isBetween = true
      try {
        this.#take(record)
      } catch (error) {
        this.#placing.putBack(due)
        throw error
      } finally {
        this.#isBetween = false
      }
      this.#state.commit()
      if (record.kind === 'event') this.#leave(record)
      count++
      if (before === Number.POSITIVE_INFINITY) this.#placing.releaseWaiting(this.#time)
    }
    return count
  }

  /** Resolves when a request and all events that follow from it have been applied; rejects when `abandon` comes first. */
  whenComplete(partition: number, offset: number): Promise<void> | undefined {
    if (this.#isSettled(partition, offset)) return undefined
    const root = `${partition}:${offset}`
    const known = this.#waiters.get(root)
    if (known) return known.promise
    const waiter = Promise.withResolvers<void>()
    // Whoever asked may have gone by then.
    waiter.promise.catch(() => {})
    this.#waiters.set(root, waiter)
    return waiter.promise
  }

  /** Tells all who wait for what will not be applied any more. */
  abandon(error: HenceError): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error)
    this.#waiters.clear()
  }

  /** Saves state and positions together. Nothing else may be under way in the state. */
  checkpoint(): Promise<void> {
    this.traces.flush()
    this.#meta.set('checkpoint', {
      logId: this.#logId,
      generation: this.generation,
      version: this.#program.version,
      positions: [...this.#positions],
      time: this.#time,
      channels: this.#channels.save(),
      tracesFrom: [...this.traces.keptFrom],
      feedFrom: [...this.#feedFrom],
      times: [...this.#times],
      history: this.#history,
      corrected: [...this.#corrected],
      correctedCount: this.#correctedCount,
      placing: this.#placing.save(),
      untraced: this.#untraced,
    })
    this.#state.commit()
    return this.#state.checkpoint()
  }

  /** Takes up the last checkpoint, if there is one. */
  restore(): void {
    const saved = this.#meta.get('checkpoint')
    if (saved === undefined) return
    const take = (to: number[], from: readonly number[]) => to.splice(0, to.length, ...from)
    take(this.#positions, saved.positions)
    take(this.#times, saved.times)
    take(this.#corrected, saved.corrected)
    take(this.traces.keptFrom, saved.tracesFrom)
    take(this.#feedFrom, saved.feedFrom)
    this.#time = saved.time
    this.#history = saved.history
    this.#correctedCount = saved.correctedCount
    this.#channels.restore(saved.channels)
    this.#placing.restore(saved.placing)
    for (const [partition, derivations] of saved.untraced.entries()) {
      this.#untraced[partition] = [...derivations]
    }
    for (let target = 0; target < this.partitions; target++) {
      for (const event of this.#channels.waitingFor(target))
        this.#count(event.rootPartition, event.rootOffset, 1)
    }
    for (const event of this.#placing.events()) this.#count(event.rootPartition, event.rootOffset, 1)
  }

  #checkNext(partition: number, offset: number): void {
    const position = this.#positions[partition]
    assert(offset === position, 'a partition applies the record at its position next', offset, position)
  }

  #at(partition: number, offset: number, time: number, root?: Due['root']): void {
    const around = this.#record
    around.partition = partition
    around.offset = offset
    around.time = time
    around.root = root
    this.#passTime(partition, time)
  }

  #passTime(partition: number, time: number): void {
    this.#times[partition] = Math.max(this.#times[partition]!, time)
    this.#time = Math.max(this.#time, time)
  }

  #pass(partition: number, time: number): void {
    this.#passTime(partition, time)
    this.#positions[partition]!++
  }

  /** What is to be derived at a record: the record, an event of its own generation in its place, or nothing but the time. */
  #toDerive(partition: number, record: LogRecord): LogRecord | 'early' {
    if (record.kind === 'request') return this.#decided.get(record.identity) ? tick : record
    if (record.kind === 'correction') return this.#isNextCorrection(partition, record) ? record : tick
    if (record.kind !== 'event') return record
    const isCauseDerived = this.#positions[record.causePartition]! > record.causeOffset
    if (record.generation !== this.generation) {
      if (this.isLive) throw foreign(partition, record, this.generation)
      return isCauseDerived ? (this.#placing.at(partition, record.id) ?? tick) : 'early'
    }
    const arrival = this.#channels.arrive(partition, record, isCauseDerived)
    return arrival === 'apply' ? record : arrival === 'seen' ? tick : 'early'
  }

  /** Whether a correction is to be applied, and was not yet: one of its own, or of those whose place it takes, as long as they had it. */
  #isNextCorrection(partition: number, { generation, correction }: CorrectionRecord): boolean {
    const { promotion, n } = correction
    if (promotion !== this.#promotion || n <= this.#corrected[partition]!) return false
    for (const each of this.#lineage) {
      if (each === generation) return true
      // What was made good in the one that took its place was not in its own tables.
      if (this.#wasLive(each)) return false
    }
    return false
  }

  #wasLive(generation: number): boolean {
    return this.#history.some((fact) => fact.type === 'promotion' && fact.generation === generation)
  }

  /** The number of the last promotion. */
  get #promotion(): number | undefined {
    return this.#history.findLast(({ type }) => type === 'promotion')?.number
  }

  /** An event was applied. */
  #leave({ rootPartition, rootOffset }: EventRecord): void {
    this.#count(rootPartition, rootOffset, -1)
    this.#settle(rootPartition, rootOffset)
  }

  #take(record: LogRecord): void {
    const { partition, offset, time } = this.#record
    let step: StepResult
    try {
      step = this.#deriver.derive(record)
    } catch (error) {
      this.#state.undo(0)
      this.#context.timers.forgetTaken()
      throw error
    }
    const { decisions } = step
    for (const { chain, outcome } of decisions) {
      const { identity, rootPartition, rootOffset } = chain
      this.#decided.set(
        identity,
        encodeStoredOutcome({ partition: rootPartition, offset: rootOffset, outcome }),
      )
    }
    if (record.kind === 'correction') this.#correctOutcome(record)
    for (const moved of step.moved) this.#move(moved)
    const { listener } = this
    for (const emission of step.outgoing) {
      const [target, event] = this.#send(emission)
      listener.emitted?.(target, event)
    }
    const derivations = traced(step.derivations)
    const before = this.#untraced[partition]!
    this.#untraced[partition] = before.length === 0 ? derivations : [...before, ...derivations]
    if (before.length + derivations.length > untracedMax) this.#traceRest(partition, offset, time)

    if (listener.failed) for (const failure of failuresOf(step, partition, offset)) listener.failed(failure)
    if (listener.decided) {
      for (const { chain, outcome } of decisions) {
        const { identity, rootPartition, rootOffset } = chain
        listener.decided(identity, { partition: rootPartition, offset: rootOffset, outcome })
      }
    }
    listener.applied?.(partition, offset, { time, derivations })
  }

  /** What was told of a request stays told, whatever other code makes of it. */
  #correctOutcome({ correction: { identity, what } }: CorrectionRecord): void {
    if (what.kind !== 'outcome') return
    const decided = this.decided(identity)
    if (decided === undefined) return
    const corrected = derivedOutcome(decided)
    if (corrected === undefined) return
    const outcome = what.told as Outcome
    const isSame = canonicalJson(outcome) === canonicalJson(corrected)
    this.#decided.set(identity, encodeStoredOutcome({ ...decided, outcome, ...(!isSame && { corrected }) }))
  }

  /** By this code a request or a result belongs to another partition than that which it stands in. */
  #move({ record, key }: StepResult['moved'][number]): void {
    const { partition, offset, time, root = { partition, offset } } = this.#record
    if (this.isLive) throw misplaced(partition, offset, key)
    if (record.kind === 'request') {
      // Whoever sends it again before it is derived must not make it another one.
      this.#decided.set(record.identity, encodeStoredOutcome({ ...root, outcome: undefined }))
    }
    const target = partitionOf(key, this.partitions)
    this.#placing.add({ time, target, partition, offset, record, root })
  }

  /** What was derived at a record, and since the one before it, goes into its trace. */
  #traceRest(partition: number, offset: number, time: number): void {
    const derivations = this.#untraced[partition]!
    if (derivations.length === 0) return
    this.traces.add({ partition, offset }, { time, derivations })
    this.#untraced[partition] = none
  }

  #send({ type, version, key, data, origin, chain }: Emission): [target: number, event: EventRecord] {
    // What follows from a request that moved is caused by the record of the request, wherever it is derived.
    const { time, root } = this.#record
    const { partition, offset } = root ?? this.#record
    const target = partitionOf(key, this.partitions)
    const sent: Omit<EventRecord, 'channelNumber'> = {
      kind: 'event',
      generation: this.generation,
      causePartition: partition,
      causeOffset: offset,
      rootPartition: chain.rootPartition,
      rootOffset: chain.rootOffset,
      identity: chain.identity,
      depth: origin.depth,
      type,
      version,
      key,
      id: origin.seed,
      data: JSON.stringify(data),
    }
    let event: EventRecord
    if (this.isLive) {
      event = this.#channels.send(target, sent)
    } else {
      event = { ...sent, channelNumber: 0 }
      this.#placing.send(target, event, time, this.#isBetween && root === undefined)
    }
    this.#count(chain.rootPartition, chain.rootOffset, 1)
    return [target, event]
  }

  #count(partition: number, offset: number, by: number): void {
    const root = `${partition}:${offset}`
    const count = (this.#unsettled.get(root) ?? 0) + by
    if (count === 0) this.#unsettled.delete(root)
    else this.#unsettled.set(root, count)
  }

  #settle(partition: number, offset: number): void {
    if (this.#waiters.size === 0 || !this.#isSettled(partition, offset)) return
    const root = `${partition}:${offset}`
    this.#waiters.get(root)?.resolve()
    this.#waiters.delete(root)
  }

  #isSettled(partition: number, offset: number): boolean {
    return this.#positions[partition]! > offset && !this.#unsettled.has(`${partition}:${offset}`)
  }
}

const none: readonly never[] = []

/** So much may be derived between two records before it is put where the next one will stand, which may never come. */
const untracedMax = 256

/** Fires timers, and nothing else. */
const tick: LogRecord = { kind: 'tick' }

type Changing<T> = { -readonly [K in keyof T]: T[K] }

function foreign(partition: number, event: EventRecord, live: number): HenceError {
  return new HenceError(
    'divergence',
    'operator',
    `The log of partition ${partition} holds the event "${event.type}" of generation ${event.generation} where generation ${live} is live. ` +
      'The log is damaged, or was written by two processes.',
  )
}

function misplaced(partition: number, offset: number, key: string): HenceError {
  return new HenceError(
    'divergence',
    'operator',
    `Record ${offset} of partition ${partition} has the key ${JSON.stringify(key)}, which belongs to another partition: ` +
      'the code that gives keys has changed, or is not deterministic.',
  )
}

function unstill(number: number): HenceError {
  return new HenceError(
    'divergence',
    'operator',
    `Control record ${number} stands where events were under way that come to nothing before it. ` +
      'The code has changed, or is not deterministic.',
  )
}

/** What threw in a step: derivations, and requests that were decided by one. */
function failuresOf(step: StepResult, partition: number, offset: number): RecordedFailure[] {
  const failures: RecordedFailure[] = []
  for (const { type, key, failure } of step.derivations) {
    if (failure !== undefined) failures.push({ type, key, ...failure, partition, offset })
  }
  return failures
}

const textCodec = { encode: (text: string) => text, decode: (text: string) => text }

function jsonCodec<T>() {
  return { encode: (value: T) => JSON.stringify(value), decode: (text: string) => JSON.parse(text) as T }
}
