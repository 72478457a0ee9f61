import { senderOf } from '../identity.ts'
import { forgetRows } from '../state/forget-rows.ts'
import { encodeKey } from '../state/keys.ts'
import type { Pieces } from '../state/pieces.ts'
import type { TableRow, TableShape, TableState } from '../state/table.ts'

/** Effects that derivations asked for: `hence.effects`, by id. */
export const effects: TableShape = {
  name: 'hence.effects',
  parts: [],
  indexes: { byState: ['state', 'type', 'at'] },
}

/**
 * How long after a derivation asked for an effect it can safely be sent again: receivers remember ids at
 * least this long (Stripe documents 24 hours), from the first time, and any try may have succeeded.
 */
const receiversRememberMs = 24 * 60 * 60 * 1000

/** The error of an effect that a promotion replaced before it was sent. */
export const replacedError = 'other code asks for something else'

/** An effect and its state. */
export interface EffectRow {
  readonly type: string
  /** JSON text. */
  readonly input: string
  /** `pending`: not acknowledged yet; `done`; `dead`: given up, until an operator sends it again. */
  readonly state: 'pending' | 'done' | 'dead'
  /** Log time at which a derivation asked for it, in milliseconds since 1970. */
  readonly at: number
  /** The scope of that derivation. */
  readonly scope: string
  /** The partition key of the derivation that asked for it. */
  readonly key: string
  /** The request that it follows from. */
  readonly identity: string
  readonly rootPartition: number
  readonly rootOffset: number
  /** How many events stand between that request and this. */
  readonly depth: number
  /** When it was done or given up, in log time. */
  readonly endedAt?: number
  /** How often it was tried until then. */
  readonly tries?: number
  /** How long the last of them took, in milliseconds, 65,535 at most; left out if that is not known. */
  readonly ms?: number
  /** The handler's return value, as JSON text. */
  readonly result?: string
  /** Why it was given up. */
  readonly error?: string
  /** A `correct` asked for it, to answer a promotion; other code is not expected to ask for it too. */
  readonly correction?: true
  /** How often an operator redrove it, and when last, in log time. */
  readonly redrives?: number
  readonly redrivenAt?: number
}

/** An effect as operators see it. */
export interface EffectState
  extends Pick<
    EffectRow,
    'type' | 'state' | 'key' | 'at' | 'endedAt' | 'tries' | 'ms' | 'error' | 'redrives'
  > {
  readonly id: string
  readonly input: unknown
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  readonly result?: unknown
}

/** A query of effects in one state, of one type or all. */
export interface EffectsQuery {
  /** Default `pending`. */
  readonly state?: EffectRow['state']
  readonly type?: string | undefined
  /** Default 100. */
  readonly limit?: number
  /** Only effects from this one on. */
  readonly from?: Pick<EffectState, 'type' | 'at' | 'id'> | undefined
  /** Sees each effect; the list ends with the first that it returns true for, for example to bound its bytes. */
  until?(effect: EffectState): boolean
}

export function effectState(id: string, row: EffectRow): EffectState {
  const { type, input, state, identity, key, at, endedAt, tries, ms, result, error, redrives } = row
  return {
    id,
    type,
    input: JSON.parse(input),
    state,
    ...senderOf(identity),
    key,
    at,
    ...(endedAt !== undefined && { endedAt }),
    ...(tries !== undefined && { tries }),
    ...(ms !== undefined && { ms }),
    ...(result !== undefined && { result: JSON.parse(result) }),
    ...(error !== undefined && { error }),
    ...(redrives !== undefined && { redrives }),
  }
}

/** How delivery ended; it arrives as a record of the log. */
export type EffectEnd = {
  readonly tries: number
  /** How long the last try took; 0 if that is not known. */
  readonly ms: number
} & ({ readonly done: true; readonly result: unknown } | { readonly done: false; readonly error: string })

export class Outbox {
  readonly #rows: TableState
  readonly #forgottenBefore: () => number

  /** @param forgottenBefore see `DerivationContext` */
  constructor(rows: TableState, forgottenBefore: () => number = () => 0) {
    this.#rows = rows
    this.#forgottenBefore = forgottenBefore
  }

  get(id: string): EffectRow | undefined {
    return this.#rows.get(encodeKey([id])) as EffectRow | undefined
  }

  /** The effect as derivations see it: a forgotten one is unknown, though its row may still be there. */
  known(id: string): EffectRow | undefined {
    const row = this.get(id)
    return row?.state === 'done' && row.at < this.#forgottenBefore() ? undefined : row
  }

  add(id: string, row: EffectRow): void {
    this.#rows.put(encodeKey([id]), row)
  }

  /** Records how an effect ended; undefined, and nothing changes, if it had ended before. */
  end(id: string, end: EffectEnd, now: number): EffectRow | undefined {
    const row = this.get(id)
    if (row === undefined || row.state === 'done' || (row.state === 'dead' && !end.done)) return undefined
    const { error: _e, ms: _m, ...rest } = row
    const { tries, ms } = end
    const common = { ...rest, endedAt: now, tries, ...(ms > 0 && { ms }) }
    const ended: EffectRow = end.done
      ? { ...common, state: 'done', result: JSON.stringify(end.result) }
      : { ...common, state: 'dead', error: end.error }
    this.add(id, ended)
    return ended
  }

  /** Makes a dead effect pending again; `key` is the partition key that it belongs to. */
  redrive(
    id: string,
    key: string,
    now: number,
    mayRepeat: boolean,
  ): 'effect-unknown' | 'effect-not-dead' | 'effect-may-repeat' | undefined {
    const row = this.known(id)
    // Under another key the change would bypass the order of its own partition.
    if (row === undefined || row.key !== key) return 'effect-unknown'
    if (row.state !== 'dead') return 'effect-not-dead'
    if (!mayRepeat && now > row.at + receiversRememberMs) return 'effect-may-repeat'
    this.add(id, { ...row, state: 'pending', redrives: (row.redrives ?? 0) + 1, redrivenAt: now })
    return undefined
  }

  /**
   * Effects in a state, of one type or of all, oldest first within a type.
   * @param options.from where to start: the type unless it is given, the time it was asked for, and its id
   * @param options.until as for `TableState.scan`
   */
  list(
    state: EffectRow['state'],
    options: {
      readonly type?: string
      readonly limit: number
      readonly from?: readonly [...type: [] | [string], at: number, id: string] | undefined
      readonly until?: (id: string, row: EffectRow) => boolean
    },
  ): [string, EffectRow][] {
    const { type, limit, from, until } = options
    const query = { index: 'byState', prefix: type === undefined ? [state] : [state, type], limit, from }
    const entryOf = ({ key, value }: TableRow): [string, EffectRow] => [key[0] as string, value as EffectRow]
    return this.#rows.scan(query, undefined, until && ((row) => until(...entryOf(row)))).map(entryOf)
  }

  /** Deletes effects that are done and were asked for before a time. */
  *forget(types: Iterable<string>, before: number, limit: number): Pieces {
    for (const type of types)
      yield* forgetRows(this.#rows, { index: 'byState', prefix: ['done', type], to: [before] }, limit)
  }
}
