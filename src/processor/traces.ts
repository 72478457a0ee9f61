import { assert } from '../assert.ts'
import type { Position } from '../log/log.ts'
import type { Codec, Collection } from '../state/cells.ts'
import { compressed } from '../state/compression.ts'
import { decodeKey, encodePart, endOfPrefix } from '../state/keys.ts'
import { inPieces, type Pieces } from '../state/pieces.ts'
import type { State } from '../state/state.ts'
import {
  decode,
  encode,
  linesOf,
  merged,
  offsetOf,
  type Trace,
  type TracedDerivation,
  timeOf,
} from './trace.ts'

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
const chunkTracesMax = 1024
/** The store compresses chunks, large ones better: to a tenth. It is for all partitions together. */
const openBytesMax = 8 * 1024 * 1024
const chunkBytesMax = 256 * 1024
const chunkBytesMin = 16 * 1024

/** Of so many chunks their end is kept in memory, so that forgetting them reads nothing. */
const knownMax = 16 * 1024

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
 * A trace is written into a chunk at once, which is compressed when it is full: one value of the state for a
 * hundred records costs far less than a hundred values, and bytes outside the heap cost the garbage collector
 * nothing, while objects that live until the next checkpoint would be moved by it.
 */
export class Traces {
  readonly #chunks: Collection<Buffer>
  readonly #descendants: Collection<true>
  /** By partition: the chunk that is being filled. */
  readonly #open: readonly OpenChunk[]
  readonly #chunkBytes: number
  /** By partition, in order; there may be others before, between and after them. */
  readonly #known: KnownChunk[][]
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
    this.#chunkBytes = Math.min(chunkBytesMax, Math.max(chunkBytesMin, Math.floor(openBytesMax / partitions)))
    this.#open = Array.from({ length: partitions }, () => ({
      first: 0,
      last: 0,
      time: 0,
      count: 0,
      bytes: noBytes,
      length: 0,
    }))
    this.#known = Array.from({ length: partitions }, () => [])
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
    const room = 1 + (line.length > this.#chunkBytes / 4 ? Buffer.byteLength(line) : line.length * 3)
    const open = this.#open[partition]!
    assert(open.count === 0 || offset >= open.first, 'traces are written in the order of the log', offset)
    if (open.count === 0 || open.count === chunkTracesMax || open.length + room > open.bytes.length) {
      this.#closeChunk(partition)
      open.first = offset
      if (open.bytes.length !== this.#chunkBytes || room > this.#chunkBytes)
        open.bytes = Buffer.allocUnsafeSlow(Math.max(this.#chunkBytes, room))
    }
    open.bytes[open.length++] = lineBreak
    open.length += open.bytes.write(line, open.length)
    open.count++
    open.last = offset
    open.time = trace.time
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
    const lines: string[] = []
    for (const line of this.#lines(partition, offset)) {
      if (offsetOf(line) !== offset) break
      lines.push(line)
    }
    return merged(lines)
  }

  /** The traces before an offset, the last first, decoded if `text` says so; finish before a change. */
  *back(
    { partition, offset: end }: Position,
    text: string,
  ): Iterable<{ offset: number; time: number; trace?: Trace }> {
    let lines: string[] = []
    const trace = () => {
      const found = lines.some((line) => line.includes(text)) ? merged(lines) : undefined
      const [offset, time] = [offsetOf(lines[0]!), timeOf(lines.at(-1)!)]
      return { offset, time, ...(found && { trace: found }) }
    }
    for (const line of this.#linesBack(partition, end)) {
      if (lines.length > 0 && offsetOf(line) !== offsetOf(lines[0]!)) {
        yield trace()
        lines = []
      }
      lines.unshift(line)
    }
    if (lines.length > 0) yield trace()
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
  *forget(partition: number, before: number, limit: number): Pieces {
    const prefix = encodePart(partition)
    const known = this.#known[partition]!
    let [from, first] = [prefix, prefix]
    for (let traces = 0; ; ) {
      const oldest = this.#chunkBetween(from, known[0]?.key ?? endOfPrefix(prefix)) ?? known[0]
      if (oldest === undefined) return
      const { count, end } = oldest
      if (oldest.time >= before || (traces > 0 && traces + count > limit)) return
      traces += count
      if (oldest === known[0]) known.shift()
      this.#chunks.delete(oldest.key)
      // Not from this one on: the store still has it, and would read it.
      from = `${oldest.key}\0`
      this.keptFrom[partition] = end
      const to = keyOf({ partition, offset: end })
      const children = (last?: [entry: string, _: true]) =>
        this.#descendants.range({ from: last?.[0] ?? first, to })
      yield* inPieces(children, ([entry]) => this.#descendants.delete(entry))
      first = to
      yield
    }
  }

  #chunkBetween(from: string, to: string | undefined): KnownChunk | undefined {
    for (const [key, chunk] of this.#chunks.range({ from, to })) {
      const lines = linesOf(chunk)
      const last = lines.at(-1)!
      return { key, count: lines.length, end: offsetOf(last) + 1, time: timeOf(last) }
    }
    return undefined
  }

  #closeChunk(partition: number): void {
    const open = this.#open[partition]!
    if (open.count === 0) return
    const prefix = keyOf({ partition, offset: open.first })
    let key = prefix + encodePart(0)
    for (let count = 1; this.#chunks.get(key) !== undefined; count++) key = prefix + encodePart(count)
    const bytes = open.bytes.subarray(0, open.length)
    const chunk = compressed(bytes)
    this.#chunks.set(key, chunk === bytes ? Buffer.from(bytes) : chunk)
    const known = this.#known[partition]!
    if (known.length < knownMax / this.#known.length)
      known.push({ key, count: open.count, end: open.last + 1, time: open.time })
    open.count = open.length = 0
  }

  /** The traces of a partition from an offset on, as text; finish before the state changes. */
  *#lines(partition: number, from: number): Iterable<string> {
    const prefix = encodePart(partition)
    // An earlier chunk may have traces from this offset on, too.
    const upTo = { from: prefix, to: keyOf({ partition, offset: from }), reverse: true }
    for (const [, chunk] of this.#chunks.range(upTo)) {
      for (const line of linesOf(chunk)) if (offsetOf(line) >= from) yield line
      break
    }
    for (const [, chunk] of this.#chunks.range({ from: upTo.to, to: endOfPrefix(prefix) })) {
      for (const line of linesOf(chunk)) if (offsetOf(line) >= from) yield line
    }
    for (const line of this.#openLines(partition)) if (offsetOf(line) >= from) yield line
  }

  /** Those before an offset, the last first. */
  *#linesBack(partition: number, end: number): Iterable<string> {
    for (const line of this.#openLines(partition).reverse()) if (offsetOf(line) < end) yield line
    const range = { from: encodePart(partition), to: keyOf({ partition, offset: end }), reverse: true }
    for (const [, chunk] of this.#chunks.range(range)) {
      for (const line of linesOf(chunk).reverse()) if (offsetOf(line) < end) yield line
    }
  }

  #openLines(partition: number): string[] {
    const { bytes, length } = this.#open[partition]!
    return linesOf(bytes.subarray(0, length))
  }
}

interface OpenChunk {
  /** The offset of the first trace, and offset and time of the last one. */
  first: number
  last: number
  time: number
  count: number
  bytes: Buffer
  /** How many of the bytes are in use. */
  length: number
}

interface KnownChunk {
  readonly key: string
  /** How many traces it has; the offset behind the last one, and the time of that. */
  readonly count: number
  readonly end: number
  readonly time: number
}

const noBytes = Buffer.alloc(0)
const lineBreak = 10

const chunkCodec: Codec<Buffer> = { encode: (bytes) => bytes, decode: (text) => Buffer.from(text) }

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

function keyOf({ partition, offset }: Position): string {
  return encodePart(partition) + encodePart(offset)
}

function positionOf(key: string): Position {
  const [partition, offset] = decodeKey(['number', 'number'], key).parts as [number, number]
  return { partition, offset }
}
