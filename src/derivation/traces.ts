import { decodeKey, encodePart, endOfPrefix } from '../state/keys.ts'
import type { Change, Collection, State } from '../state/state.ts'
import type { Chain } from './chain.ts'
import type { Derivation, Failure } from './step.ts'

/** What one record of the log came to: the material of stories, and of a feed of changes. */
export interface Trace {
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly derivations: readonly TracedDerivation[]
}

export interface TracedDerivation extends Chain {
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

/** Where a record stands. */
export interface Place {
  readonly partition: number
  readonly offset: number
}

/**
 * The traces of records, kept as long as outcomes are: by their place, and by the requests that what was derived
 * there follows from.
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

  add(place: Place, trace: Trace): void {
    const key = keyOf(place)
    this.#traces.set(key, trace)
    for (const { rootPartition: partition, rootOffset: offset } of trace.derivations) {
      if (partition === place.partition && offset === place.offset) continue
      this.#descendants.set(keyOf({ partition, offset }) + key, true)
    }
  }

  get(place: Place): Trace | undefined {
    return this.#traces.get(keyOf(place))
  }

  /** The places of a request and of what follows from it, as far as it has been applied. */
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

/** What a trace keeps of a derivation. */
export function traced(derivation: Derivation): TracedDerivation {
  const { kind, type, key, chain, changes, emissions, effects, failure } = derivation
  return {
    ...chain,
    kind,
    type,
    key,
    changes: rowChanges(changes),
    events: emissions.map(({ type, key, data }) => [type, key, data]),
    effects,
    failure,
  }
}

/** The rows of the app among some changes. */
function rowChanges(changes: readonly Change[]): [string, string, unknown, unknown][] {
  const rows: [string, string, unknown, unknown][] = []
  for (const { collection, key, before, after } of changes) {
    if (collection.startsWith('t:') && !collection.startsWith('t:hence.')) {
      rows.push([collection.slice(2), key, before ?? null, after ?? null])
    }
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
  encode: ({ time, derivations }: Trace) =>
    JSON.stringify([
      time,
      ...derivations.map((each) => [
        each.kind,
        each.type,
        each.key,
        each.identity,
        each.rootPartition,
        each.rootOffset,
        each.changes,
        each.events,
        each.effects,
        each.failure,
      ]),
    ]),
  decode(text: string): Trace {
    const [time, ...derivations] = JSON.parse(text)
    return {
      time,
      derivations: derivations.map(
        ([
          kind,
          type,
          key,
          identity,
          rootPartition,
          rootOffset,
          changes,
          events,
          effects,
          failure,
        ]: never[]) => ({
          kind,
          type,
          key,
          identity,
          rootPartition,
          rootOffset,
          changes,
          events,
          effects,
          failure: failure ?? undefined,
        }),
      ),
    }
  },
}
