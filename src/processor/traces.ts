import { isSystemMessage } from '../app/name.ts'
import { assert } from '../assert.ts'
import { operatorTables, type Violation } from '../constraint/tables.ts'
import type { Chain, Emission } from '../derivation/chain.ts'
import type { Derivation, Failure, StepResult } from '../derivation/step-result.ts'
import type { Position } from '../log/log.ts'
import type { Codec, Collection } from '../state/cells.ts'
import { decodeKey, encodePart, endOfPrefix } from '../state/keys.ts'
import type { State, StateChange } from '../state/state.ts'

/** The derivations of one record of the log, for stories and for the feed of changes. */
export interface Trace {
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly derivations: readonly TracedDerivation[]
}

export interface TracedDerivation extends Omit<Chain, 'identity'> {
  /**
   * `waits`: the request that was derived here has no outcome yet; `decides`: a request that was derived
   * elsewhere got its outcome. Both hold nothing but the position of that request.
   */
  readonly kind: Derivation['kind'] | 'waits' | 'decides'
  readonly type: string
  /** The partition key that it was derived under. */
  readonly key: string
  /** Rows that changed: table, encoded key, value before and after; null where there was none. */
  readonly changes: readonly (readonly [table: string, key: string, before: unknown, after: unknown])[]
  /** The events that it emitted, in order; the version is left out if it is 1. */
  readonly events: readonly (readonly [type: string, key: string, data: unknown, version?: number])[]
  /** The ids of effects that it asked for. */
  readonly effects: readonly string[]
  /** Set if it threw; everything it did was then undone. */
  readonly failure: Failure | undefined
}

/** The part of the traces that a checkpoint keeps, beside the chunks; each by partition. */
export interface SavedTraces {
  /** The first offset that is kept. */
  readonly tracesFrom: readonly number[]
  /** The first offset from which the traces have all changes of rows. */
  readonly feedFrom: readonly number[]
  /** Derivations since the last record. */
  readonly untraced: readonly (readonly TracedDerivation[])[]
}

/** How many traces and bytes a chunk has at most: few writes, and little to read for one trace. */
const chunkTracesMax = 128
const chunkBytesMax = 64 * 1024

/** A trace may be split after so many derivations: the record that they wait for may never come. */
const gatheredMax = 256

/**
 * The traces of records, kept as long as outcomes are, by position; and for each request the positions of the
 * records that follow from it.
 *
 *   traces       partition, offset of the first, number of the chunk with this offset  → consecutive traces, one a line
 *   descendants  root partition, root offset, partition, offset                        → nothing
 *
 * Derivations between two records belong to the offset of the second, and may take several lines.
 *
 * A trace is written into a chunk at once: one value of the state for a hundred records costs far less than a
 * hundred values, and bytes outside the heap cost the garbage collector nothing, while objects that live
 * until the next checkpoint would be moved by it.
 */
export class Traces {
  readonly #chunks: Collection<Buffer>
  readonly #descendants: Collection<true>
  /** By partition: the chunk that is being filled. */
  readonly #open: readonly OpenChunk[]
  /** By partition: the first offset that is kept. Saved with the checkpoint. */
  readonly keptFrom: number[]
  /** By partition: the first offset from which the traces have all changes of rows. Saved with the checkpoint. */
  readonly completeFrom: number[]
  /** By partition: derivations since its last record, for the trace of the next one. */
  readonly #gathered: (readonly TracedDerivation[])[]

  static readonly collections = ['traces', 'descendants']

  constructor(state: State, partitions: number) {
    this.keptFrom = new Array(partitions).fill(0)
    this.completeFrom = new Array(partitions).fill(0)
    this.#gathered = new Array(partitions).fill(none)
    this.#open = Array.from({ length: partitions }, () => ({ first: 0, count: 0, bytes: noBytes, length: 0 }))
    this.#chunks = state.collection('traces', chunkCodec, false)
    this.#descendants = state.collection('descendants', { encode: () => '', decode: () => true }, false)
  }

  /** By partition: derivations since its last record. */
  get untraced(): readonly (readonly TracedDerivation[])[] {
    return this.#gathered
  }

  /** Adds derivations to the trace of a record, which may not have been applied yet. */
  gather(partition: number, offset: number, time: number, derivations: readonly TracedDerivation[]): void {
    const before = this.#gathered[partition]!
    this.#gathered[partition] = before.length === 0 ? derivations : [...before, ...derivations]
    if (before.length + derivations.length > gatheredMax) this.finish(partition, offset, time)
  }

  /** Writes the trace of a record: all derivations since the record before. */
  finish(partition: number, offset: number, time: number): void {
    const derivations = this.#gathered[partition]!
    if (derivations.length === 0) return
    this.#add({ partition, offset }, { time, derivations })
    this.#gathered[partition] = none
  }

  /** From these positions on the traces have all changes of rows. */
  startFeed(positions: readonly number[]): void {
    this.completeFrom.splice(0, this.completeFrom.length, ...positions)
  }

  restore({ tracesFrom, feedFrom, untraced }: SavedTraces): void {
    this.keptFrom.splice(0, this.keptFrom.length, ...tracesFrom)
    this.startFeed(feedFrom)
    this.#gathered.splice(0, this.#gathered.length, ...untraced)
  }

  #add(position: Position, trace: Trace): void {
    const { partition, offset } = position
    const line = encode(offset, trace)
    // A character has at most 3 bytes of UTF-8; a line break comes before every line. Of a long line they are
    // counted, since a chunk keeps all its bytes in memory.
    const room = 1 + (line.length > chunkBytesMax / 4 ? Buffer.byteLength(line) : line.length * 3)
    const open = this.#open[partition]!
    assert(open.count === 0 || offset >= open.first, 'traces are written in the order of the log', offset)
    if (open.count === chunkTracesMax || open.length + room > open.bytes.length) {
      this.#closeChunk(partition)
      open.first = offset
      open.bytes = Buffer.allocUnsafeSlow(Math.max(chunkBytesMax, room))
    }
    open.bytes[open.length++] = lineBreak
    open.length += open.bytes.write(line, open.length)
    open.count++
    for (const { rootPartition, rootOffset } of trace.derivations) {
      if (rootPartition === partition && rootOffset === offset) continue
      const root = keyOf({ partition: rootPartition, offset: rootOffset })
      this.#descendants.set(root + keyOf(position), true)
    }
  }

  /** Puts all traces into the state; call it before the state is saved. */
  flush(): void {
    for (const partition of this.#open.keys()) this.#closeChunk(partition)
  }

  get({ partition, offset }: Position): Trace | undefined {
    let trace: Trace | undefined
    for (const line of this.#lines(partition, offset)) {
      if (offsetOf(line) !== offset) break
      const { time, derivations } = decode(line)
      trace = {
        time,
        derivations: trace === undefined ? derivations : [...trace.derivations, ...derivations],
      }
    }
    return trace
  }

  /** The positions of a request and of the records applied so far that follow from it. */
  family(root: Position): Position[] {
    const key = keyOf(root)
    const found = [root]
    for (const [entry] of this.#descendants.range({ from: key, to: endOfPrefix(key) })) {
      found.push(positionOf(entry.slice(key.length)))
    }
    return found
  }

  /** The traces of a partition from an offset on. */
  from({ partition, offset }: Position, limit: number): { offset: number; trace: Trace }[] {
    const found: { offset: number; trace: Trace }[] = []
    for (const line of this.#lines(partition, offset)) {
      if (found.length >= limit) break
      found.push({ offset: offsetOf(line), trace: decode(line) })
    }
    return found
  }

  /** The traces of records from a time on, by partition, as text. */
  *kept(before: number): Iterable<[partition: string, line: string]> {
    for (const partition of this.#open.keys()) {
      for (const line of this.#lines(partition, 0)) {
        if (decode(line).time >= before) yield [encodePart(partition), line]
      }
    }
  }

  /**
   * Forgets the oldest traces of a partition, in whole chunks.
   * @param before log time, in milliseconds since 1970; chunks that reach it are kept
   * @param limit how many traces are forgotten at most, but at least one chunk
   */
  forget(partition: number, before: number, limit: number): void {
    const prefix = encodePart(partition)
    const old: string[] = []
    let traces = 0
    let end = 0
    for (const [key, chunk] of this.#chunks.range({ from: prefix, to: endOfPrefix(prefix) })) {
      const lines = linesOf(chunk)
      const last = lines.at(-1)!
      traces += lines.length
      if (decode(last).time >= before || (traces > limit && old.length > 0)) break
      old.push(key)
      end = offsetOf(last) + 1
    }
    if (old.length === 0) return
    for (const key of old) this.#chunks.delete(key)
    const children: string[] = []
    const to = keyOf({ partition, offset: end })
    for (const [entry] of this.#descendants.range({ from: prefix, to })) children.push(entry)
    for (const entry of children) this.#descendants.delete(entry)
    this.keptFrom[partition] = end
  }

  #closeChunk(partition: number): void {
    const open = this.#open[partition]!
    if (open.count === 0) return
    const prefix = keyOf({ partition, offset: open.first })
    let key = prefix + encodePart(0)
    for (let count = 1; this.#chunks.get(key) !== undefined; count++) key = prefix + encodePart(count)
    this.#chunks.set(key, open.bytes.subarray(0, open.length))
    open.bytes = noBytes
    open.count = open.length = 0
  }

  /**
   * The traces of a partition from an offset on, as text. As with `Collection.range`, finish before the state
   * changes.
   */
  *#lines(partition: number, from: number): Iterable<string> {
    const prefix = encodePart(partition)
    // An earlier chunk may have traces from this offset on, too.
    const upTo = { from: prefix, to: keyOf({ partition, offset: from }), reverse: true }
    let start: string = upTo.to
    for (const [key] of this.#chunks.range(upTo)) {
      start = key
      break
    }
    for (const [, chunk] of this.#chunks.range({ from: start, to: endOfPrefix(prefix) })) {
      for (const line of linesOf(chunk)) if (offsetOf(line) >= from) yield line
    }
    const { bytes, length } = this.#open[partition]!
    for (const line of linesOf(bytes.subarray(0, length))) if (offsetOf(line) >= from) yield line
  }
}

interface OpenChunk {
  /** The offset of the first trace. */
  first: number
  count: number
  bytes: Buffer
  /** How many of the bytes are in use. */
  length: number
}

const noBytes = Buffer.alloc(0)
const lineBreak = 10

const chunkCodec: Codec<Buffer> = { encode: (bytes) => bytes, decode: (text) => Buffer.from(text) }

function linesOf(chunk: Buffer | string): string[] {
  return chunk.toString().split('\n').slice(1)
}

/** Reduces the derivations and decisions of a step to the part that a trace keeps. */
export function traced({ derivations, decisions }: StepResult): readonly TracedDerivation[] {
  // Most records lead to one derivation; this avoids a list that grows.
  const found =
    derivations.length === 1
      ? listOf(tracedOne(derivations[0]!))
      : derivations.flatMap((each) => listOf(tracedOne(each)))
  const isUsual = decisions.length === 1 && decisions[0]!.outcome && derivations[0]!.kind === 'request'
  return isUsual || decisions.length === 0 ? found : [...found, ...marksOf(found, decisions)]
}

/** Marks the requests that were derived in another step than the one that decided them. */
function marksOf(found: readonly TracedDerivation[], decisions: StepResult['decisions']): TracedDerivation[] {
  const marks: TracedDerivation[] = []
  // A request may begin to wait and be decided in one step: then its last decision counts.
  const last = new Map(
    decisions.map((each) => [`${each.chain.rootPartition}:${each.chain.rootOffset}`, each]),
  )
  for (const { chain, outcome } of last.values()) {
    const { rootPartition, rootOffset } = chain
    const isHere = found.some(
      (each) =>
        each.kind === 'request' && each.rootPartition === rootPartition && each.rootOffset === rootOffset,
    )
    if (isHere !== (outcome === undefined)) continue
    const kind = isHere ? 'waits' : 'decides'
    const nothing = { type: '', key: '', changes: none, events: none, effects: none, failure: undefined }
    marks.push({ kind, rootPartition, rootOffset, ...nothing })
  }
  return marks
}

function listOf<T>(item: T | undefined): readonly T[] {
  return item === undefined ? none : [item]
}

/**
 * Reduces a derivation to the part that a trace keeps. A system message without visible consequences, for
 * example a claim that was granted, leaves no trace, since there are many.
 */
function tracedOne(derivation: Derivation): TracedDerivation | undefined {
  const { kind, type, key, chain, emissions, effects, failure } = derivation
  const changes: TracedDerivation['changes'][number][] = []
  for (const change of derivation.changes) {
    if (!isTraced(derivation, change)) continue
    const { collection, key, before, after } = change
    changes.push([collection.slice(2), key, before ?? null, after ?? null])
  }
  const isQuiet = changes.length === 0 && emissions.length === 0 && effects.length === 0 && !failure
  if (isQuiet && isSystemMessage(type) && kind !== 'request') return undefined
  const { rootPartition, rootOffset } = chain
  return {
    kind,
    type,
    key,
    rootPartition,
    rootOffset,
    changes,
    events: emissions.length === 0 ? none : emissions.map(tracedEvent),
    effects,
    failure,
  }
}

function tracedEvent({ type, key, data, version }: Emission): TracedDerivation['events'][number] {
  return version === 1 ? [type, key, data] : [type, key, data, version]
}

/** The events in a stored chunk of traces, each with the position of its cause. */
export function* eventsIn(
  key: string,
  chunk: string,
): Iterable<Position & { readonly event: TracedDerivation['events'][number] }> {
  const [partition] = decodeKey(['number', 'number', 'number'], key).parts as [number]
  for (const line of linesOf(chunk)) {
    const offset = offsetOf(line)
    for (const { events } of decode(line).derivations)
      for (const event of events) yield { partition, offset, event }
  }
}

const none: readonly never[] = []

/** Whether a trace keeps a change: of rows that an app or an operator can read. */
function isTraced({ type }: Derivation, { collection, before, after }: StateChange): boolean {
  if (!isReadable(collection)) return false
  // A violation lists all its victims. Kept for each victim that was compensated, a thousand of them would
  // make hundreds of megabytes; the last state of the violation has the results of all.
  return type !== 'hence:compensated' || stateOf(before) !== stateOf(after)
}

function stateOf(row: unknown): Violation['state'] | undefined {
  return (row as Violation | undefined)?.state
}

function isReadable(collection: string): boolean {
  if (!collection.startsWith('t:')) return false
  return !collection.startsWith('t:hence.') || operatorTables.has(collection.slice(2))
}

function keyOf({ partition, offset }: Position): string {
  return encodePart(partition) + encodePart(offset)
}

function positionOf(key: string): Position {
  const [partition, offset] = decodeKey(['number', 'number'], key).parts as [number, number]
  return { partition, offset }
}

/**
 * JSON, which has no line breaks; the offset comes first, so that it is found without parsing the rest. The
 * empty text is where older versions had the identity of the request, which follows from its position.
 */
function encode(offset: number, { time, derivations }: Trace): string {
  return JSON.stringify([
    offset,
    time,
    ...derivations.map((each) => [
      each.kind,
      each.type,
      each.key,
      '',
      each.rootPartition,
      each.rootOffset,
      each.changes,
      each.events,
      each.effects,
      each.failure,
    ]),
  ])
}

function decode(line: string): Trace {
  const [, time, ...derivations] = JSON.parse(line)
  return { time, derivations: derivations.map(decodeDerivation) }
}

function decodeDerivation(fields: never[]): TracedDerivation {
  const [kind, type, key, , rootPartition, rootOffset, changes, events, effects, failure] = fields
  return {
    kind: kind!,
    type: type!,
    key: key!,
    rootPartition: rootPartition!,
    rootOffset: rootOffset!,
    changes: changes!,
    events: events!,
    effects: effects!,
    failure: failure ?? undefined,
  }
}

function offsetOf(line: string): number {
  return Number(line.slice(1, line.indexOf(',')))
}
