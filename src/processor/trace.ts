import { isSystemMessage } from '../app/name.ts'
import type { Messages } from '../constraint/turn.ts'
import type { Chain } from '../derivation/chain.ts'
import type { Derivation, Failure } from '../derivation/step-result.ts'
import { textOf } from '../state/compression.ts'

/** The derivations of one record of the log, for stories and for the feed of changes. */
export interface Trace {
  /** Log time of the record, in milliseconds since 1970. */
  readonly time: number
  readonly derivations: readonly TracedDerivation[]
}

export interface TracedDerivation extends Omit<Chain, 'identity'> {
  /**
   * `waits`: it has no outcome yet; `decides`: one from elsewhere got its outcome. Both are positions.
   * `filled`: rows of a new table.
   */
  readonly kind: Derivation['kind'] | 'waits' | 'decides' | 'filled'
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
  /** The violation because of which the claim of its request waits. */
  readonly violation?: string
}

const none: readonly never[] = []

export function linesOf(chunk: Buffer | string): string[] {
  return (typeof chunk === 'string' ? chunk : textOf(chunk)).split('\n').slice(1)
}

/**
 * JSON, which has no line breaks; the offset comes first, so that it is found without parsing the rest. The
 * holder that sends system messages stands once, before them.
 */
export function encode(offset: number, { time, derivations }: Trace): string {
  const [first] = derivations
  // Most records lead to one derivation, and lists that are spread are made twice.
  if (derivations.length === 1) return JSON.stringify([offset, time, fieldsOf(first!)])
  return JSON.stringify([offset, time, ...derivations.map(fieldsOf)])
}

function fieldsOf(each: TracedDerivation): unknown[] {
  const { kind, type, key, rootPartition, rootOffset, changes, effects, failure, violation } = each
  const [sender, events] = each.events.length === 0 ? nothingSent : withoutSender(each.events)
  const fields = [kind, type, key, sender, rootPartition, rootOffset, changes, events, effects, failure]
  return violation === undefined ? fields : [...fields, violation]
}

/** The request that sends a system message: its identity, its scope, and its key. */
type MessageSender = readonly [identity: string, scope: string, holder: string]

const nothingSent: ReturnType<typeof withoutSender> = [0, none]

/** Takes the sender out of the messages that have the same one as the first; a 1 stands in its place. */
function withoutSender(events: TracedDerivation['events']): [MessageSender | 0, TracedDerivation['events']] {
  let sender: MessageSender | 0 = 0
  const without = events.map((event) => {
    const [type, key, data] = event
    if (!isSystemMessage(type)) return event
    const { identity, scope, holder, ...rest } = data as Partial<Messages['hence:claim']>
    if (identity === undefined || scope === undefined || holder === undefined) return event
    if (sender === 0) sender = [identity, scope, holder]
    const isSame = identity === sender[0] && scope === sender[1] && holder === sender[2]
    return isSame ? ([type, key, rest, 1] as const) : event
  })
  return [sender, without as never]
}

/** System messages have version 1, so a fourth element of theirs is the 1 in the place of the sender. */
function withSender(event: TracedDerivation['events'][number], sender: MessageSender): typeof event {
  const [type, key, data, isSent] = event
  if (isSent === undefined || !isSystemMessage(type)) return event
  const [identity, scope, holder] = sender
  return [type, key, { ...(data as object), identity, scope, holder }]
}

export function decode(line: string): Trace {
  const [, time, ...derivations] = JSON.parse(line)
  return { time, derivations: derivations.map(decodeDerivation) }
}

export function merged(lines: readonly string[]): Trace | undefined {
  const traces = lines.map(decode)
  const last = traces.at(-1)
  return last && { ...last, derivations: traces.flatMap(({ derivations }) => derivations) }
}

function decodeDerivation(fields: never[]): TracedDerivation {
  const [kind, type, key, sender, rootPartition, rootOffset, changes, events, effects, failure, violation] =
    fields
  return {
    kind: kind!,
    type: type!,
    key: key!,
    rootPartition: rootPartition!,
    rootOffset: rootOffset!,
    changes: changes!,
    events: (events! as TracedDerivation['events']).map((event) => withSender(event, sender!)),
    effects: effects!,
    failure: failure ?? undefined,
    ...(violation !== undefined && { violation }),
  }
}

export function offsetOf(line: string): number {
  return Number(line.slice(1, line.indexOf(',')))
}

export function timeOf(line: string): number {
  const at = line.indexOf(',') + 1
  return Number(line.slice(at, line.indexOf(',', at)))
}
