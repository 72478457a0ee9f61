import type { App, FoldedChange, FoldedEvent, FoldedRequest } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { derivedOutcome } from '../derivation/stored-outcome.ts'
import { changeError } from '../failure.ts'
import { senderOf } from '../identity.ts'
import type { Log, Position } from '../log/log.ts'
import { requestsAt } from '../log/records-at.ts'
import type { Applied } from '../processor/applied.ts'
import type { Processor } from '../processor/processor.ts'
import type { Trace, TracedDerivation } from '../processor/trace.ts'
import { decodeKey } from '../state/keys.ts'
import type { FoldedRecord, FoldMessage, ViewFold } from './fold.ts'

export interface TracedRecord {
  readonly partition: number
  readonly offset: number
  readonly trace: Trace
  /** The app whose code derived it; left out: that of the live generation. */
  readonly app?: App
}

/** How many traces of a partition are read at once. */
const tracesAtOnce = 256

/**
 * Reads the traces of a generation in the order in which views fold them, live, after a crash and derived
 * again: of each partition by offset, those of several by log time, then by partition.
 */
export class TraceFeed {
  readonly generation: number
  readonly views: ViewFold[]
  /** By partition: the offset from which traces are still to be read. */
  readonly #read: number[]
  /** By partition: traces that were read, and not taken. */
  readonly #waiting: TracedRecord[][]

  constructor(generation: number, positions: readonly number[], views: ViewFold[]) {
    this.generation = generation
    this.views = views
    this.#read = [...positions]
    this.#waiting = positions.map(() => [])
  }

  /** By partition: the offset of the next record. */
  get positions(): number[] {
    return this.#waiting.map((waiting, partition) => waiting[0]?.offset ?? this.#read[partition]!)
  }

  /**
   * Takes the next traces.
   * @param frontier the processor has applied all records with an earlier log time
   * @throws HenceError `position-unknown` (change) if traces are no longer kept
   */
  take(processor: Processor, frontier: number, max: number): TracedRecord[] {
    const taken: TracedRecord[] = []
    while (taken.length < max) {
      let first: TracedRecord | undefined
      for (const partition of this.#read.keys()) {
        const [next] = this.#next(processor, partition)
        if (next !== undefined && (first === undefined || next.trace.time < first.trace.time)) first = next
      }
      if (first === undefined || first.trace.time >= frontier) break
      taken.push(this.#waiting[first.partition]!.shift()!)
    }
    return taken
  }

  /** Whether traces wait until log time has passed them. */
  get isWaiting(): boolean {
    return this.#waiting.some((waiting) => waiting.length > 0)
  }

  /** The waiting traces of a partition, after reading more if there are none. */
  #next(processor: Processor, partition: number): readonly TracedRecord[] {
    const waiting = this.#waiting[partition]!
    const from = this.#read[partition]!
    const end = processor.position(partition)
    if (waiting.length > 0 || from >= end) return waiting
    if (from < processor.feedFrom(partition)) throw notKept(partition, from)
    const found = processor.traces.from({ partition, offset: from }, tracesAtOnce)
    for (const { offset, trace } of found) waiting.push({ partition, offset, trace })
    this.#read[partition] = found.length < tracesAtOnce ? end : found.at(-1)!.offset + 1
    return waiting
  }
}

/** Puts what a replay applies into the order of `TraceFeed`. */
export class ReplayedOrder {
  /** Those that log time has not passed, or not in every partition. */
  #waiting: TracedRecord[] = []
  #oldest = Number.POSITIVE_INFINITY
  #ready: TracedRecord[] = []

  get waiting(): readonly TracedRecord[] {
    return this.#waiting
  }

  /** How many can be taken. */
  get ready(): number {
    return this.#ready.length
  }

  /**
   * @param app whose code derived it
   * @param frontier records with an earlier log time come in its order
   */
  add({ partition, offset, trace }: Applied, app: App, frontier = Number.POSITIVE_INFINITY): void {
    this.pass(Math.min(trace.time, frontier))
    if (trace.derivations.length === 0) return
    this.#waiting.push({ partition, offset, trace, app })
    this.#oldest = Math.min(this.#oldest, trace.time)
  }

  /** All records with an earlier log time have come. */
  pass(before: number): void {
    if (this.#oldest >= before) return
    this.#waiting.sort((a, b) => a.trace.time - b.trace.time || a.partition - b.partition)
    const left = this.#waiting.filter(({ trace }) => trace.time >= before)
    this.#ready.push(...this.#waiting.slice(0, this.#waiting.length - left.length))
    this.#waiting = left
    this.#oldest = left[0]?.trace.time ?? Number.POSITIVE_INFINITY
  }

  take(): TracedRecord[] {
    const taken = this.#ready
    this.#ready = []
    return taken
  }
}

const notKept = (partition: number, offset: number) =>
  changeError(
    'position-unknown',
    `The changes of partition ${partition} from offset ${offset} on are no longer kept.`,
  )

/**
 * Makes the messages that views fold of traces.
 * @param leavesOut leave out requests whose outcomes are no longer kept; else `position-unknown` (change)
 */
export async function messagesOf(
  records: readonly TracedRecord[],
  { app, log, processor }: { readonly app: App; readonly log: Log; readonly processor: Processor },
  views: readonly Pick<ViewFold, 'takes'>[],
  leavesOut = false,
): Promise<FoldedRecord[]> {
  const requests = views.some((view) => view.takes('requests'))
    ? await requestsOf(records, log, processor, views, leavesOut)
    : undefined
  return records.map((record) => messagesIn(record, record.app ?? app, (root) => requests?.get(root)))
}

interface Decided {
  readonly name: string
  readonly message: Omit<FoldedRequest, 'at' | 'token'>
}

/** Makes the messages of one record; `decided` returns the request at a position, if a view folds it. */
export function messagesIn(
  { partition, offset, trace: { time: at, derivations } }: TracedRecord,
  app: App,
  decided: (root: string) => Decided | undefined,
): FoldedRecord {
  const token = `${partition}:${offset}`
  const messages: FoldMessage[] = []
  for (const derivation of derivations) {
    const request = decides(derivation, derivations) ? decided(tokenOf(rootOf(derivation))) : undefined
    if (request !== undefined) {
      const message: FoldedRequest = { ...request.message, at, token }
      messages.push({ kind: 'requests', name: request.name, message, derivation })
    }
    for (const [name, key, before, after] of derivation.changes) {
      const table = app.tables.get(name)
      if (table === undefined) continue
      const message: FoldedChange = {
        key: decodeKey(['string', ...table.parts], key).parts,
        ...(before !== null && { before: before as never }),
        ...(after !== null && { after: after as never }),
        at,
        token,
      }
      messages.push({ kind: 'tables', name, message, derivation })
    }
    for (const [name, key, data, version = 1] of derivation.events) {
      if (isSystemMessage(name)) continue
      const message: FoldedEvent = { key, data, version, at, token }
      messages.push({ kind: 'events', name, message, derivation })
    }
  }
  return { partition, offset, messages }
}

/** The request that a derivation follows from. */
export const rootOf = ({ rootPartition, rootOffset }: TracedDerivation): Position => ({
  partition: rootPartition,
  offset: rootOffset,
})

const tokenOf = ({ partition, offset }: Position) => `${partition}:${offset}`

const isOfSame = (a: TracedDerivation, b: TracedDerivation) =>
  a.rootPartition === b.rootPartition && a.rootOffset === b.rootOffset

/** Whether the request that a derivation follows from got its outcome there. */
function decides(derivation: TracedDerivation, all: readonly TracedDerivation[]): boolean {
  if (derivation.kind !== 'request') return derivation.kind === 'decides'
  return !all.some((each) => each.kind === 'waits' && isOfSame(each, derivation))
}

/** The requests that were decided, by position, as far as a view folds them. */
async function requestsOf(
  records: readonly TracedRecord[],
  log: Log,
  processor: Processor,
  views: readonly Pick<ViewFold, 'takes'>[],
  leavesOut: boolean,
): Promise<Map<string, Decided>> {
  const isTaken = (name: string) => views.some((view) => view.takes('requests', name))
  const roots = records.flatMap(({ trace: { derivations } }) =>
    derivations
      .filter((each) => decides(each, derivations) && (each.kind !== 'request' || isTaken(each.type)))
      .map(rootOf),
  )
  const found = new Map<string, Decided>()
  for await (const { token, partition, offset, record } of requestsAt(log, roots)) {
    if (!isTaken(record.type)) continue
    const { identity, version, input, output = input } = record
    const stored = processor.decided(identity)
    const outcome = stored && derivedOutcome(stored)
    if (outcome === undefined && leavesOut) continue
    if (outcome === undefined) throw notKept(partition, offset)
    const message = { ...senderOf(identity), version, input: JSON.parse(output), outcome }
    found.set(token, { name: record.type, message })
  }
  return found
}
