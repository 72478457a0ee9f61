import { decodeKey, encodePart, endOfPrefix } from '../state/keys.ts'
import type { Change, Collection, State } from '../state/state.ts'
import type { Failure } from './step.ts'

/** What one record of the log came to: the row of a story, and of a feed of changes. */
export interface Trace {
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly kind: 'request' | 'event'
  readonly type: string
  /** The partition key that it was derived under. */
  readonly key: string
  /** The identity of the request at the beginning of the chain. */
  readonly identity: string
  /** Rows that changed: table, encoded key, value before and after; null where there was none. */
  readonly changes: readonly (readonly [table: string, key: string, before: unknown, after: unknown])[]
  /** What it told other keys, in the order of emission. */
  readonly events: readonly (readonly [type: string, key: string, data: unknown])[]
  readonly failures: readonly Failure[]
}

/** Where a record stands. */
export interface Place {
  readonly partition: number
  readonly offset: number
}

/**
 * The traces of records, kept as long as outcomes are: by their place, and for events also by the request
 * that they follow from.
 *
 *   traces       partition, offset                                    → trace
 *   descendants  root partition, root offset, partition, offset       → nothing
 */
export class Traces {
  readonly #traces: Collection<Trace>
  readonly #descendants: Collection<true>
  /** By partition: the first offset that is kept. Saved with the checkpoint. */
  readonly keptFrom: number[]

  static readonly collections = ['traces', 'descendants']

  constructor(state: State, partitions: number) {
    this.keptFrom = new Array(partitions).fill(0)
    this.#traces = state.collection('traces', traceCodec, false)
    this.#descendants = state.collection('descendants', { encode: () => '', decode: () => true }, false)
  }

  /** @param root the request that an event follows from */
  add(place: Place, trace: Trace, root: Place | undefined): void {
    const key = keyOf(place)
    this.#traces.set(key, trace)
    if (root) this.#descendants.set(keyOf(root) + key, true)
  }

  get(place: Place): Trace | undefined {
    return this.#traces.get(keyOf(place))
  }

  /** The places of a request and of the events that follow from it, as far as they have been applied. */
  family(root: Place): Place[] {
    const key = keyOf(root)
    const found = [root]
    for (const [entry] of this.#descendants.range({ from: key, to: endOfPrefix(key) })) {
      found.push(placeOf(entry.slice(key.length)))
    }
    return found
  }

  /** The traces of a partition from an offset on, so many at most. */
  from({ partition, offset }: Place, limit: number): { offset: number; trace: Trace }[] {
    const found: { offset: number; trace: Trace }[] = []
    const to = endOfPrefix(encodePart(partition))
    for (const [key, trace] of this.#traces.range({ from: keyOf({ partition, offset }), to })) {
      if (found.length >= limit) break
      found.push({ offset: placeOf(key).offset, trace })
    }
    return found
  }

  /** Forgets the oldest traces of a partition: those before a time, so many at most. */
  forget(partition: number, before: number, limit: number): void {
    const prefix = encodePart(partition)
    const old: string[] = []
    for (const [key, { time }] of this.#traces.range({ from: prefix, to: endOfPrefix(prefix) })) {
      if (time >= before || old.length >= limit) break
      old.push(key)
    }
    for (const key of old) {
      this.#traces.delete(key)
      this.keptFrom[partition] = placeOf(key).offset + 1
      const children: string[] = []
      for (const [entry] of this.#descendants.range({ from: key, to: endOfPrefix(key) })) children.push(entry)
      for (const entry of children) this.#descendants.delete(entry)
    }
  }
}

/** The rows among some changes, in the form that a trace keeps. */
export function rowChanges(changes: Iterable<Change>): [string, string, unknown, unknown][] {
  const rows: [string, string, unknown, unknown][] = []
  for (const { collection, key, before, after } of changes) {
    if (collection.startsWith('t:')) rows.push([collection.slice(2), key, before ?? null, after ?? null])
  }
  return rows
}

function keyOf({ partition, offset }: Place): string {
  return encodePart(partition) + encodePart(offset)
}

function placeOf(key: string): Place {
  const [partition, offset] = decodeKey(['number', 'number'], key).parts as [number, number]
  return { partition, offset }
}

const traceCodec = {
  encode: ({ time, kind, type, key, identity, changes, events, failures }: Trace) =>
    JSON.stringify([time, kind, type, key, identity, changes, events, failures]),
  decode(text: string): Trace {
    const [time, kind, type, key, identity, changes, events, failures] = JSON.parse(text)
    return { time, kind, type, key, identity, changes, events, failures }
  },
}
