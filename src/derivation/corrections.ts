import { correctionReactionName } from '../app/app.ts'
import type { App } from '../app/index.ts'
import { type EffectRow, replacedError } from '../effect/outbox.ts'
import { identityOf } from '../identity.ts'
import type { RecordedCorrection } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey, encodeKey } from '../state/keys.ts'
import type { Store } from '../state/store.ts'
import { decodeDecided } from './decided.ts'
import { type Derived as Compared, comparison } from './diff.ts'
import type { Difference, EffectDifference, OutcomeDifference, RowDifference } from './difference.ts'
import type { Place } from './traces.ts'

/** A derivation whose rows are looked up, too. */
type Derived = Compared & { readonly store: Pick<Store, 'range' | 'get'> }

/** What was asked of the log for a correction. */
export interface CorrectionSources {
  /** The requests that stand at some places, by their tokens. */
  requests(places: readonly Place[]): Promise<ReadonlyMap<string, CorrectedRequest>>
  /** Is waited for now and then, so that others can work. */
  pause(): Promise<void> | undefined
}

/** A request: its type, its input as it was sent, and its partition key if there is code that gives one. */
export interface CorrectedRequest {
  readonly type: string
  readonly input: unknown
  readonly key: string | undefined
}

export interface CorrectionCounts {
  readonly outcome: number
  readonly effect: number
  readonly row: number
}

/** What comes of promoting one derivation of the log in the place of another. */
export interface Corrections {
  readonly list: readonly RecordedCorrection[]
  readonly counts: CorrectionCounts
  /** Effects that are asked for anew. */
  readonly effectsNew: number
}

/**
 * Works out the corrections of a promotion: of every outcome that was told otherwise, of effects that were asked for and are
 * now others, and, where the app has a `correct` for the scope, of effects that are asked for no longer and of rows.
 *
 * The stores may not change meanwhile, and are views if `pause` gives control back to the event loop.
 *
 * @param promotion its number, the identity that approved it, and where it is going to stand
 */
export async function correctionsOf(
  before: Derived,
  after: Derived,
  promotion: {
    readonly number: number
    readonly identity: string
    readonly partition: number
    readonly offset: number
  },
  sources: CorrectionSources,
): Promise<Corrections> {
  const found: (RowDifference | EffectDifference | OutcomeChange)[] = []
  let effectsNew = 0
  for (const difference of comparison(before, after)) {
    const pause = sources.pause()
    if (pause) await pause
    if (difference === undefined) continue
    // Nobody apologises for an apology.
    if (difference.kind === 'effect' && effectRow(before, difference.id)?.correction) continue
    if (isCorrected(difference, after.app)) {
      found.push(difference.kind === 'outcome' ? outcomeChange(difference, before) : difference)
    } else if (isNewEffect(difference)) effectsNew++
  }
  const corrected = new Set(outcomesOf(found).map(({ identity }) => identity))
  for (const [identity, text] of before.store.range('decided')) {
    const pause = sources.pause()
    if (pause) await pause
    if (!text.includes('\t') || corrected.has(identity)) continue
    const { partition, offset, outcome: told, corrected: is } = decodeDecided(text)
    found.push({ kind: 'outcome', identity, partition, offset, told, before: is, after: is, kept: true })
  }
  const list: RecordedCorrection[] = []
  const counts = { outcome: 0, effect: 0, row: 0 }
  const add = (correction: Omit<RecordedCorrection, 'promotion' | 'n'>) => {
    list.push({ promotion: promotion.number, n: list.length, ...correction })
    const { what } = correction
    if (!('kept' in what) && !('settled' in what)) counts[what.kind]++
  }
  const requests = await sources.requests(outcomesOf(found))
  for (const each of found) {
    if (each.kind === 'outcome') {
      add(ofOutcome(each, after.app, requests.get(`${each.partition}:${each.offset}`)!))
    }
    if (each.kind === 'effect') add(ofEffect(each, before))
    if (each.kind === 'row') {
      const { table, scope, key, before: was, after: is } = each
      const { identity, partition: rootPartition, offset: rootOffset } = promotion
      add({
        scope,
        key: key[0] as string,
        identity,
        rootPartition,
        rootOffset,
        what: {
          kind: 'row',
          table,
          rowKey: key,
          ...(was !== undefined && { before: was }),
          ...(is !== undefined && { after: is }),
        },
      })
    }
  }
  for (const settled of settledEffects(before, after)) {
    const pause = sources.pause()
    if (pause) await pause
    if (settled !== undefined) add(settled)
  }
  return { list, counts, effectsNew }
}

type Corrected = RowDifference | EffectDifference | OutcomeDifference

function isNewEffect(difference: Difference): boolean {
  return difference.kind === 'effect' && difference.before === undefined
}

function isCorrected(difference: Difference, app: App): difference is Corrected {
  const { kind } = difference
  const corrects = (scope: string) => app.reactions.has(correctionReactionName(scope))
  if (kind === 'outcome') return difference.before !== undefined && difference.after !== undefined
  if (kind === 'row') return app.tables.has(difference.table) && corrects(difference.scope)
  if (kind !== 'effect' || difference.before === undefined) return false
  const { before, after } = difference
  // Where it is asked for is nobody's business outside: what went out is what it says now, too.
  if (after !== undefined) return canonicalJson(before.input) !== canonicalJson(after.input)
  return corrects(before.scope)
}

/** What becomes of an outcome. */
interface OutcomeChange extends Place {
  readonly kind: 'outcome'
  readonly identity: string
  readonly told: unknown
  readonly before?: unknown
  readonly after?: unknown
  readonly kept?: true
}

function outcomesOf(found: readonly { readonly kind: string }[]): OutcomeChange[] {
  return found.filter(({ kind }) => kind === 'outcome') as OutcomeChange[]
}

function outcomeChange(difference: OutcomeDifference, { store }: Derived): OutcomeChange {
  const identity = identityOf(difference.requestId, difference.principal)
  return { ...difference, identity, told: decodeDecided(store.get('decided', identity)!).outcome }
}

function ofOutcome(
  { identity, partition, offset, told, before, after, kept }: OutcomeChange,
  app: App,
  { type, input, key }: CorrectedRequest,
): Omit<RecordedCorrection, 'promotion' | 'n'> {
  return {
    // Without a key there are no rows that the app could make good.
    scope: (key !== undefined && app.requests.get(type)?.scope) || '',
    key: key ?? '',
    identity,
    rootPartition: partition,
    rootOffset: offset,
    what: { kind: 'outcome', type, input, told, before, after, ...(kept && { kept }) },
  }
}

function ofEffect(
  { id, after }: EffectDifference,
  before: Derived,
): Omit<RecordedCorrection, 'promotion' | 'n'> {
  const row = effectRow(before, id)!
  const { type, scope, key, identity, rootPartition, rootOffset } = row
  return {
    scope,
    key,
    identity,
    rootPartition,
    rootOffset,
    what: { kind: 'effect', id, type, before: row, ...(after && { after: JSON.stringify(after.input) }) },
  }
}

/** Effects that both ask for, and that had come to an end before the one that is promoted asked for them; `undefined` between. */
function* settledEffects(
  before: Derived,
  after: Derived,
): Iterable<Omit<RecordedCorrection, 'promotion' | 'n'> | undefined> {
  for (const [key, text] of after.store.range('t:hence.effects')) {
    yield undefined
    const row = JSON.parse(text) as EffectRow
    if (row.state !== 'pending') continue
    const old = before.store.get('t:hence.effects', key)
    const ended = old === undefined ? undefined : (JSON.parse(old) as EffectRow)
    if (ended === undefined || ended.state === 'pending') continue
    // What was given up for something else has not been sent, and is asked for again.
    if (ended.state === 'dead' && ended.error === replacedError) continue
    if (!isSameInput(ended, row)) continue
    const { type, scope, key: at, identity, rootPartition, rootOffset } = row
    const id = decodeKey(['string'], key).parts[0] as string
    yield {
      scope,
      key: at,
      identity,
      rootPartition,
      rootOffset,
      what: { kind: 'effect', id, type, before: ended, after: row.input, settled: true },
    }
  }
}

/** An id says of which type an effect is. */
function isSameInput(a: EffectRow, b: EffectRow): boolean {
  return a.input === b.input || canonicalJson(JSON.parse(a.input)) === canonicalJson(JSON.parse(b.input))
}

function effectRow({ store }: Derived, id: string): EffectRow | undefined {
  const text = store.get('t:hence.effects', encodeKey([id]))
  return text === undefined ? undefined : JSON.parse(text)
}
