import { isSystemMessage } from '../app/name.ts'
import { operatorTables, type Violation } from '../constraint/tables.ts'
import type { Chain } from '../derivation/chain.ts'
import type { Derivation, Failure } from '../derivation/step-result.ts'
import type { Position } from '../log/log.ts'
import type { Codec, Collection } from '../state/cells.ts'
import { decodeKey, encodePart, endOfPrefix } from '../state/keys.ts'
import type { State, StateChange } from '../state/state.ts'

/** What one record of the log came to: the material of stories, and of a feed of changes. */
export interface Trace {
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly derivations: readonly TracedDerivation[]
}

export interface TracedDerivation extends Omit<Chain, 'identity'> {
  readonly kind: Derivation['kind']
  readonly type: string
  /** The partition key that it was derived under. */
  readonly key: string
  /** Rows that changed: table, encoded key, value before and after; null where there was none. */
  readonly changes: readonly (readonly [table: string, key: string, before: unknown, after: unknown])[]
  /** What it told other keys, in the order of emission. */
  readonly events: readonly (readonly [type: string, key: string, data: unknown])[]
  /** The ids of effects that it asked for. */
  readonly effects: readonly string[]
  /** It threw: nothing of it stands. */
  readonly failure: Failure | undefined
}

/** What a checkpoint has of the traces, beside their chunks; each by partition. */
export interface SavedTraces {
  /** The first offset that is kept. */
  readonly tracesFrom: readonly number[]
  /** The first offset from which the traces have all changes of rows. */
  readonly feedFrom: readonly number[]
  /** What was derived since the last record. */
  readonly untraced: readonly (readonly TracedDerivation[])[]
}

/** A chunk has so many traces and bytes at most: few writes, and little to read for one trace. */
const chunkTracesMax = 128
const chunkBytesMax = 64 * 1024

/** A trace may be split after so many derivations: the record that they wait for may never come. */
const gatheredMax = 256

/**
 * The traces of records, kept as long as outcomes are: by their place, and by the requests that what was derived
 * there follows from.
 *
 *   traces       partition, offset of the first, how many begin there  → traces of records that follow each other, one a line
 *   descendants  root partition, root offset, partition, offset        → nothing
 *
 * What is derived between two records stands at the offset of the second, in as many lines as it takes.
 *
 * A trace is written into a chunk at once: one value of the state for a hundred records costs far less than a
 * hundred, and bytes outside the heap cost the garbage collector nothing, whereas it would have to move what
 * lives until the next checkpoint.
 */
export class Traces {
  readonly #chunks: Collection<Buffer>
  readonly #descendants: Collection<true>
  /** By partition: the traces that no chunk has yet. */
  readonly #open: readonly OpenChunk[]
  /** By partition: the first offset that is kept. Saved with the checkpoint. */
  readonly keptFrom: number[]
  /** By partition: the first offset from which the traces have all changes of rows. Saved with the checkpoint. */
  readonly completeFrom: number[]
  /** By partition: what was derived since its last record, and belongs to the trace of the next one. */
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

  /** By partition: what was derived since its last record. */
  get untraced(): readonly (readonly TracedDerivation[])[] {
    return this.#gathered
  }

  /** Takes derivations for the trace of a record; some may belong to it before the record is applied. */
  gather(partition: number, offset: number, time: number, derivations: readonly TracedDerivation[]): void {
    const before = this.#gathered[partition]!
    this.#gathered[partition] = before.length === 0 ? derivations : [...before, ...derivations]
    if (before.length + derivations.length > gatheredMax) this.close(partition, offset, time)
  }

  /** Writes the trace of a record: everything that was gathered since the one before. */
  close(partition: number, offset: number, time: number): void {
    const derivations = this.#gathered[partition]!
    if (derivations.length === 0) return
    this.#add({ partition, offset }, { time, derivations })
    this.#gathered[partition] = none
  }

  restore({ tracesFrom, feedFrom, untraced }: SavedTraces): void {
    this.keptFrom.splice(0, this.keptFrom.length, ...tracesFrom)
    this.completeFrom.splice(0, this.completeFrom.length, ...feedFrom)
    this.#gathered.splice(0, this.#gathered.length, ...untraced)
  }

  #add(place: Position, trace: Trace): void {
    const { partition, offset } = place
    const line = encode(offset, trace)
    // A character has 3 bytes of UTF-8 at most; a line break stands before every line.
    const room = line.length * 3 + 1
    const open = this.#open[partition]!
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
      this.#descendants.set(root + keyOf(place), true)
    }
  }

  /** Puts all traces into the state: to be called before it is saved. */
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

  /** The places of a request and of what follows from it, as far as it has been applied. */
  family(root: Position): Position[] {
    const key = keyOf(root)
    const found = [root]
    for (const [entry] of this.#descendants.range({ from: key, to: endOfPrefix(key) })) {
      found.push(placeOf(entry.slice(key.length)))
    }
    return found
  }

  /** The traces of a partition from an offset on, so many at most. */
  from({ partition, offset }: Position, limit: number): { offset: number; trace: Trace }[] {
    const found: { offset: number; trace: Trace }[] = []
    for (const line of this.#lines(partition, offset)) {
      if (found.length >= limit) break
      found.push({ offset: offsetOf(line), trace: decode(line) })
    }
    return found
  }

  /**
   * Forgets the oldest traces of a partition: chunks that end before a time, with so many traces at most, or one
   * chunk.
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
    const place = keyOf({ partition, offset: open.first })
    let key = place + encodePart(0)
    for (let count = 1; this.#chunks.get(key) !== undefined; count++) key = place + encodePart(count)
    this.#chunks.set(key, open.bytes.subarray(0, open.length))
    open.bytes = noBytes
    open.count = open.length = 0
  }

  /** The traces of a partition, as text, from an offset on. For limits on its use see `Collection.range`. */
  *#lines(partition: number, from: number): Iterable<string> {
    const prefix = encodePart(partition)
    // One that begins with it may not be the first that has some of it.
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
  /** How many of the bytes are written. */
  length: number
}

const noBytes = Buffer.alloc(0)
const lineBreak = 10

const chunkCodec: Codec<Buffer> = { encode: (bytes) => bytes, decode: (text) => Buffer.from(text) }

function linesOf(chunk: Buffer): string[] {
  return chunk.toString().split('\n').slice(1)
}

/** What a trace keeps of some derivations. */
export function traced(derivations: readonly Derivation[]): readonly TracedDerivation[] {
  // Of a record that leads to one derivation, as most do, no list grows.
  if (derivations.length === 1) return listOf(tracedOne(derivations[0]!))
  return derivations.flatMap((each) => listOf(tracedOne(each)))
}

function listOf<T>(item: T | undefined): readonly T[] {
  return item === undefined ? none : [item]
}

/**
 * What a trace keeps of a derivation; nothing of a message of Hence's own that came to nothing anybody sees, such as a
 * claim that was granted, since there are many.
 */
function tracedOne(derivation: Derivation): TracedDerivation | undefined {
  const { kind, type, key, chain, emissions, effects, failure } = derivation
  const changes: TracedDerivation['changes'][number][] = []
  for (const change of derivation.changes) {
    if (!isTold(derivation, change)) continue
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
    events: emissions.length === 0 ? none : emissions.map(({ type, key, data }) => [type, key, data]),
    effects,
    failure,
  }
}

const none: readonly never[] = []

/** Whether the trace of a derivation tells of a change: of those of rows that somebody may read. */
function isTold({ type }: Derivation, { collection, before, after }: StateChange): boolean {
  if (!isRead(collection)) return false
  // A violation names all its victims: told of again with each one that was made good, a thousand of them would make
  // hundreds of megabytes. Its end tells what became of them.
  return type !== 'hence:compensated' || stateOf(before) !== stateOf(after)
}

function stateOf(row: unknown): Violation['state'] | undefined {
  return (row as Violation | undefined)?.state
}

function isRead(collection: string): boolean {
  if (!collection.startsWith('t:')) return false
  return !collection.startsWith('t:hence.') || operatorTables.has(collection.slice(2))
}

function keyOf({ partition, offset }: Position): string {
  return encodePart(partition) + encodePart(offset)
}

function placeOf(key: string): Position {
  const [partition, offset] = decodeKey(['number', 'number'], key).parts as [number, number]
  return { partition, offset }
}

/**
 * JSON, which has no line breaks; the offset first, so that it is found without reading the rest. Once the identity of the
 * request stood before the place of its record, which tells it.
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
