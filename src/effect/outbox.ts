import { principalOf, requestIdOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'
import type { TableShape, TableState } from '../state/table.ts'

/**
 * Effects that derivations asked for: `hence.effects`, by their ids.
 */
export const effects: TableShape = {
  name: 'hence.effects',
  parts: [],
  indexes: { byState: ['state', 'type', 'at'] },
}

/**
 * How long after it was asked for an effect may be sent again without a second thought: so long do receivers at least
 * remember ids that they have seen (Stripe documents 24 hours for its idempotency keys). It counts from the
 * beginning, since any try may have been the one that was done, and a receiver counts from when it first saw an id.
 */
export const receiversRememberMs = 24 * 60 * 60 * 1000

/** Why an effect was given up in whose place other code asks for something else, before it was sent. */
export const replacedError = 'other code asks for something else'

/** An effect and what has become of it. */
export interface EffectRow {
  readonly type: string
  /** JSON text. */
  readonly input: string
  /** `pending`: not acknowledged yet; `done`; `dead`: given up, until an operator sends it again. */
  readonly state: 'pending' | 'done' | 'dead'
  /** When it was asked for: log time, in milliseconds since 1970. */
  readonly at: number
  /** Where it was asked for. */
  readonly scope: string
  readonly key: string
  /** The request that it follows from. */
  readonly identity: string
  readonly rootPartition: number
  readonly rootOffset: number
  /** How many events stand between that request and this. */
  readonly depth: number
  /** When it was done or given up, in log time. */
  readonly endedAt?: number
  /** How often it was tried for that. */
  readonly tries?: number
  /** JSON text of what its handler gave back. */
  readonly result?: string
  /** Why it was given up. */
  readonly error?: string
  /** A `correct` asked for it: it makes good a promotion, and no other code is expected to ask for it. */
  readonly correction?: true
  /** How often an operator has sent it again, and when last, in log time. */
  readonly redrives?: number
  readonly redrivenAt?: number
}

/** An effect, for people to look at. */
export interface EffectState {
  readonly id: string
  readonly type: string
  readonly input: unknown
  readonly state: EffectRow['state']
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  /** The partition key that it was asked for under. */
  readonly key: string
  /** In milliseconds since 1970, log time. */
  readonly at: number
  readonly endedAt?: number
  readonly tries?: number
  readonly result?: unknown
  readonly error?: string
  readonly redrives?: number
}

export function effectState(id: string, row: EffectRow): EffectState {
  const { type, input, state, identity, key, at, endedAt, tries, result, error, redrives } = row
  return {
    id,
    type,
    input: JSON.parse(input),
    state,
    requestId: requestIdOf(identity),
    principal: principalOf(identity),
    key,
    at,
    ...(endedAt !== undefined && { endedAt }),
    ...(tries !== undefined && { tries }),
    ...(result !== undefined && { result: JSON.parse(result) }),
    ...(error !== undefined && { error }),
    ...(redrives !== undefined && { redrives }),
  }
}

/** What a deliverer found out about an effect; it arrives as a record of the log. */
export type EffectEnd =
  | { readonly done: true; readonly tries: number; readonly result: unknown }
  | { readonly done: false; readonly tries: number; readonly error: string }

export class Outbox {
  readonly #rows: TableState

  constructor(rows: TableState) {
    this.#rows = rows
  }

  get(id: string): EffectRow | undefined {
    return this.#rows.get(encodeKey([id])) as EffectRow | undefined
  }

  add(id: string, row: EffectRow): void {
    this.#rows.put(encodeKey([id]), row)
  }

  /** Notes how an effect ended; undefined when it has ended before, so that this changes nothing. */
  end(id: string, end: EffectEnd, now: number): EffectRow | undefined {
    const row = this.get(id)
    if (row === undefined || row.state === 'done' || (row.state === 'dead' && !end.done)) return undefined
    const { error: _, ...rest } = row
    const ended: EffectRow = end.done
      ? { ...rest, state: 'done', endedAt: now, tries: end.tries, result: JSON.stringify(end.result) }
      : { ...rest, state: 'dead', endedAt: now, tries: end.tries, error: end.error }
    this.add(id, ended)
    return ended
  }

  /** Puts one that was given up among those to be delivered; `key` is where it was asked for. */
  redrive(
    id: string,
    key: string,
    now: number,
    mayRepeat: boolean,
  ): 'effect-unknown' | 'effect-not-dead' | 'effect-may-repeat' | undefined {
    const row = this.get(id)
    // Under another key it would be changed out of the order of its own partition.
    if (row === undefined || row.key !== key) return 'effect-unknown'
    if (row.state !== 'dead') return 'effect-not-dead'
    if (!mayRepeat && now > row.at + receiversRememberMs) return 'effect-may-repeat'
    this.add(id, { ...row, state: 'pending', redrives: (row.redrives ?? 0) + 1, redrivenAt: now })
    return undefined
  }

  /**
   * Effects in a state, those of one type or all, oldest first within a type.
   * @param options.from only those from here on, of one type: when it was asked for, and its id
   */
  list(
    state: EffectRow['state'],
    options: {
      readonly type?: string
      readonly limit: number
      readonly from?: readonly [at: number, id: string] | undefined
    },
  ): [string, EffectRow][] {
    const { type, limit, from } = options
    const prefix = type === undefined ? [state] : [state, type]
    return this.#rows
      .scan({ index: 'byState', prefix, limit, from })
      .map(({ key, value }) => [key[0] as string, value as EffectRow])
  }

  /** Forgets effects that were done, and asked for before a time. */
  forget(types: Iterable<string>, before: number, limit: number): void {
    for (const type of types) {
      const old = this.#rows.scan({ index: 'byState', prefix: ['done', type], to: [before], limit })
      for (const { key } of old) this.#rows.delete(encodeKey([key[0]!]))
    }
  }
}
