import { crc32 } from 'node:zlib'
import { forgetResolved } from '../constraint/judge.ts'
import { HenceError } from '../failure.ts'
import { identitiesBefore } from '../identity.ts'
import type { EventRecord, LogRecord } from '../log/record.ts'
import type { Collection, State } from '../state/state.ts'
import type { TableState } from '../state/table.ts'
import type { Chain, Emission } from './chain.ts'
import { Channels, type SavedChannel } from './channels.ts'
import { type Decided, decodeDecided, encodeDecided } from './decided.ts'
import { takeCheckedStep } from './divergence.ts'
import type { Program } from './program.ts'
import { type Failure, type Step, type Surroundings, takeStep } from './step.ts'
import { type Trace, Traces, traced } from './traces.ts'
import { inRealmOf, type Workplace, workplace } from './workplace.ts'

/** The partition that a partition key belongs to: CRC-32 of its UTF-8 bytes, modulo their number. */
export function partitionOf(key: string, partitions: number): number {
  return partitions === 1 ? 0 : crc32(key) % partitions
}

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
  decided?(identity: string, decided: Decided): void
  /** An event for another partition was emitted. */
  emitted?(target: number, event: EventRecord): void
  /** A derivation threw. */
  failed?(failure: RecordedFailure): void
  /** A record was applied; the rows are those of the program's realm. */
  applied?(partition: number, offset: number, trace: Trace): void
}

interface Checkpoint {
  readonly logId: string
  readonly version: string
  readonly positions: readonly number[]
  readonly time: number
  readonly channels: readonly SavedChannel[]
  readonly tracesFrom: readonly number[]
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
  readonly #place: Workplace
  readonly #tables: ReadonlyMap<string, TableState>
  /** As text, since hardly any is ever asked for again. */
  readonly #decided: Collection<string>
  readonly #meta: Collection<Checkpoint>
  readonly traces: Traces
  readonly #channels: Channels
  readonly #positions: number[]
  readonly #around: Surroundings & { partition: number; offset: number; time: number }
  /** Requests with events under way: how many. */
  readonly #unsettled = new Map<string, number>()
  readonly #waiters = new Map<string, PromiseWithResolvers<void>>()
  #fresh: Workplace | undefined
  #appliedChecked = 0
  #time = 0
  listener: ProcessorListener = {}

  constructor(options: {
    readonly program: Program
    readonly state: State
    readonly tables: ReadonlyMap<string, TableState>
    readonly logId: string
    readonly partitions: number
    readonly checked: boolean
  }) {
    const { program, state, tables } = options
    this.partitions = options.partitions
    this.#program = program
    this.#state = state
    this.#logId = options.logId
    this.#tables = tables
    this.#place = workplace(program, tables, options.checked)
    this.#decided = state.collection('decided', textCodec, false)
    this.#meta = state.collection('meta', jsonCodec<Checkpoint>(), false)
    this.traces = new Traces(state, options.partitions)
    this.#channels = new Channels(options.partitions)
    this.#positions = new Array(options.partitions).fill(0)
    this.#around = {
      logId: options.logId,
      partition: 0,
      offset: 0,
      time: 0,
      isHere: (key) => partitionOf(key, this.partitions) === this.#around.partition,
      mark: () => state.mark(),
      undo: (mark) => state.undo(mark),
      changes: (mark) => state.changes(mark),
    }
  }

  /** Effects and timers, as they are now. */
  get place(): Pick<Workplace, 'outbox' | 'timers'> {
    return this.#place
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

  /** What a request came to, if it was decided and its id is still kept. */
  decided(identity: string): Decided | undefined {
    const text = this.#decided.get(identity)
    return text === undefined ? undefined : decodeDecided(text)
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
    this.#place.outbox.forget(this.#program.app.effects.keys(), before, limit)
    forgetResolved(this.#place.constraints.violations, before, limit)
    this.#state.commit()
  }

  /** Events that a partition's log must still get or has still to apply. */
  waitingFor(partition: number): EventRecord[] {
    return this.#channels.waitingFor(partition)
  }

  /**
   * Applies the next record of a partition.
   *
   * @returns `early` for an event whose cause has not been derived yet: then nothing was done
   * @throws HenceError `divergence`, `channel-gap`, `unknown-message`, `state-unreadable` (operator); then
   *   nothing of the record was applied
   */
  apply(partition: number, offset: number, time: number, record: LogRecord): 'early' | undefined {
    if (offset !== this.#positions[partition]) {
      throw new Error(
        `Record ${offset} of partition ${partition} came when ${this.#positions[partition]} was due.`,
      )
    }
    const arrival = this.#arrival(partition, record)
    if (arrival === 'early') return 'early'
    const around = this.#around
    around.partition = partition
    around.offset = offset
    around.time = time
    this.#time = Math.max(this.#time, time)
    // One that came before derives nothing, but its time may set timers off.
    const isNew = arrival === 'apply'
    if (isNew || this.#place.timers.next(partition) <= time) this.#take(isNew ? record : tick)
    // Now and not before: what threw must be found as it was, should a checkpoint be taken all the same.
    if (record.kind === 'event' && isNew) this.#channels.applied(partition, record)
    this.#positions[partition]!++
    this.#state.commit()
    if (record.kind === 'request') {
      this.#settle(partition, offset)
      if (!isNew) this.listener.decided?.(record.identity, this.decided(record.identity)!)
    } else if (record.kind === 'event' && isNew) {
      this.#count(record.rootPartition, record.rootOffset, -1)
      this.#settle(record.rootPartition, record.rootOffset)
    }
    return undefined
  }

  /** Resolves when a request and all events that follow from it have been applied; rejects when `abandon` comes first. */
  settled(partition: number, offset: number): Promise<void> | undefined {
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
      version: this.#program.version,
      positions: [...this.#positions],
      time: this.#time,
      channels: this.#channels.save(),
      tracesFrom: [...this.traces.keptFrom],
    })
    this.#state.commit()
    return this.#state.checkpoint()
  }

  /**
   * Takes up the last checkpoint, if there is one.
   * @throws HenceError `state-of-another-log` (operator), `code-changed` (change)
   */
  restore(): void {
    const saved = this.#meta.get('checkpoint')
    if (saved === undefined) return
    if (saved.logId !== this.#logId || saved.positions.length !== this.partitions) {
      throw new HenceError(
        'state-of-another-log',
        'operator',
        `The derived state belongs to log ${saved.logId}, the log here is ${this.#logId}. ` +
          'Put back the right log, or remove the folder `state`: it is derived again from the log.',
      )
    }
    if (saved.version !== this.#program.version) {
      throw new HenceError(
        'code-changed',
        'change',
        `The tables were derived by version ${saved.version.slice(0, 12)} of the app's code, and this is version ` +
          `${this.#program.version.slice(0, 12)}. Start with \`onCodeChange: 'reprocess'\` to derive everything again with ` +
          'the new code, or with the old code to go on as before.',
      )
    }
    for (const [partition, position] of saved.positions.entries()) this.#positions[partition] = position
    this.#time = saved.time
    this.#channels.restore(saved.channels)
    for (const [partition, offset] of saved.tracesFrom.entries()) this.traces.keptFrom[partition] = offset
    for (let target = 0; target < this.partitions; target++) {
      for (const event of this.#channels.waitingFor(target))
        this.#count(event.rootPartition, event.rootOffset, 1)
    }
  }

  #arrival(partition: number, record: LogRecord): 'apply' | 'seen' | 'early' {
    if (record.kind === 'request') return this.#decided.get(record.identity) ? 'seen' : 'apply'
    if (record.kind !== 'event') return 'apply'
    const derived = this.#positions[record.causePartition]! > record.causeOffset
    return this.#channels.arrive(partition, record, derived)
  }

  #take(record: LogRecord): void {
    const { partition, offset, time } = this.#around
    let step: Step
    try {
      step = this.#place.checked ? this.#takeChecked(record) : takeStep(this.#place, record, this.#around)
    } catch (error) {
      this.#state.undo(0)
      this.#place.timers.forgetTaken()
      throw error
    }
    for (const { chain, outcome } of step.decisions) {
      const { identity, rootPartition, rootOffset } = chain
      this.#decided.set(identity, encodeDecided({ partition: rootPartition, offset: rootOffset, outcome }))
    }
    const outgoing = step.outgoing.map((emission) => this.#send(emission))
    const failures = failuresOf(step, partition, offset)
    const trace: Trace = { time, derivations: step.derivations.flatMap((each) => traced(each) ?? []) }
    if (trace.derivations.length > 0) this.traces.add({ partition, offset }, trace)

    const { listener } = this
    if (listener.emitted) for (const [target, event] of outgoing) listener.emitted(target, event)
    for (const failure of failures) listener.failed?.(failure)
    for (const { chain, outcome } of step.decisions) {
      const { identity, rootPartition, rootOffset } = chain
      listener.decided?.(identity, { partition: rootPartition, offset: rootOffset, outcome })
    }
    listener.applied?.(partition, offset, trace)
  }

  // A realm of its own finds what the usual one remembers; making one takes milliseconds, so not each time.
  #takeChecked(record: LogRecord): Step {
    if (this.#appliedChecked++ % 100 === 0) {
      this.#fresh = inRealmOf(this.#program.fresh(), this.#place, this.#tables)
    }
    const other = this.#fresh ?? this.#place
    this.#fresh = undefined
    try {
      return takeCheckedStep(this.#place, other, record, this.#around)
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'change') throw error
      this.#state.undo(0)
      this.#place.timers.forgetTaken()
      const failed = this.#failedStep(record, error)
      if (record.kind === 'request') return failed
      // Nobody would do again what anything else does, such as a timer that goes off, or a verdict that a request waits for.
      const step = takeStep(this.#place, record, this.#around)
      return { ...step, derivations: [...step.derivations, ...failed.derivations] }
    }
  }

  /** Dev mode only: what came of a record that is not derived the same twice; of a request, nothing but its failure. */
  #failedStep(record: LogRecord, { code, message }: HenceError): Step {
    const { partition, offset } = this.#around
    const failure = { code, message }
    const chain: Chain =
      record.kind === 'event'
        ? record
        : {
            identity: record.kind === 'request' ? record.identity : '',
            rootPartition: partition,
            rootOffset: offset,
          }
    return {
      derivations: [
        {
          kind: 'type' in record ? record.kind : record.kind === 'result' ? 'result' : 'timer',
          type: 'type' in record ? record.type : record.kind,
          key: record.kind === 'event' ? record.key : '',
          chain,
          changes: [],
          emissions: [],
          effects: [],
          failure,
        },
      ],
      outgoing: [],
      decisions: record.kind === 'request' ? [{ chain, outcome: { status: 'failed', ...failure } }] : [],
    }
  }

  #send({ type, key, data, origin, chain }: Emission): [target: number, event: EventRecord] {
    const { partition, offset } = this.#around
    const target = partitionOf(key, this.partitions)
    const event = this.#channels.send(target, {
      kind: 'event',
      generation: 0,
      causePartition: partition,
      causeOffset: offset,
      rootPartition: chain.rootPartition,
      rootOffset: chain.rootOffset,
      identity: chain.identity,
      depth: origin.depth,
      type,
      key,
      id: origin.seed,
      data: JSON.stringify(data),
    })
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

/** Fires timers, and nothing else. */
const tick = { kind: 'tick' } as const

/** What threw in a step: derivations, and requests that were decided by one. */
function failuresOf(step: Step, partition: number, offset: number): RecordedFailure[] {
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
