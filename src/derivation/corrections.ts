import type { App } from '../app/index.ts'
import { correctionReactionName } from '../app/app.ts'
import type { EffectRow } from '../effect/outbox.ts'
import { identityOf } from '../identity.ts'
import type { RecordedCorrection } from '../log/record.ts'
import { encodeKey } from '../state/keys.ts'
import { decodeDecided } from './decided.ts'
import { type Derived, differences } from './diff.ts'
import type { Difference, EffectDifference, OutcomeDifference } from './difference.ts'

/** What was asked of the log for a correction. */
export interface CorrectionSources {
  /** The request that stands at a place: its type, and its input as it was sent. */
  request(partition: number, offset: number): Promise<{ readonly type: string; readonly input: unknown; readonly key: string }>
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
  const found: Difference[] = []
  let effectsNew = 0
  for (const difference of differences(before, after)) {
    if (isCorrected(difference, after.app)) found.push(difference)
    else if (difference.kind === 'effect' && difference.before === undefined) effectsNew++
  }
  const list: RecordedCorrection[] = []
  const counts = { outcome: 0, effect: 0, row: 0 }
  const add = (correction: Omit<RecordedCorrection, 'promotion' | 'n'>) => {
    list.push({ promotion: promotion.number, n: list.length, ...correction })
    counts[correction.what.kind]++
  }
  for (const each of found) {
    if (each.kind === 'outcome') add(await ofOutcome(each, after.app, sources))
    else if (each.kind === 'effect') add(ofEffect(each, before))
    else if (each.kind === 'row') {
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
  for (const settled of settledEffects(before, after)) add(settled)
  return { list, counts, effectsNew }
}

function isCorrected(difference: Difference, app: App): boolean {
  const { kind } = difference
  const corrects = (scope: string) => app.reactions.has(correctionReactionName(scope))
  if (kind === 'outcome') return difference.before !== undefined && difference.after !== undefined
  if (kind === 'row') return app.tables.has(difference.table) && corrects(difference.scope)
  if (kind !== 'effect' || difference.before === undefined) return false
  return difference.after !== undefined || corrects(difference.before.scope)
}

async function ofOutcome(
  { requestId, principal, partition, offset, before, after }: OutcomeDifference,
  app: App,
  sources: CorrectionSources,
): Promise<Omit<RecordedCorrection, 'promotion' | 'n'>> {
  const { type, input, key } = await sources.request(partition, offset)
  return {
    scope: app.requests.get(type)?.scope ?? '',
    key,
    identity: identityOf(requestId, principal),
    rootPartition: partition,
    rootOffset: offset,
    what: { kind: 'outcome', type, input, before, after },
  }
}

function ofEffect({ id, after }: EffectDifference, before: Derived): Omit<RecordedCorrection, 'promotion' | 'n'> {
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

/** Effects that both ask for, and that had come to an end before the one that is promoted asked for them. */
function* settledEffects(before: Derived, after: Derived): Iterable<Omit<RecordedCorrection, 'promotion' | 'n'>> {
  for (const [key, text] of after.store.range('t:hence.effects')) {
    const row = JSON.parse(text) as EffectRow
    if (row.state !== 'pending') continue
    const old = before.store.get('t:hence.effects', key)
    const ended = old === undefined ? undefined : (JSON.parse(old) as EffectRow)
    if (ended === undefined || ended.state === 'pending') continue
    if (ended.type !== row.type || ended.input !== row.input || ended.key !== row.key) continue
    const { type, scope, key: at, identity, rootPartition, rootOffset } = row
    const id = key.slice(0, -1)
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

function effectRow({ store }: Derived, id: string): EffectRow | undefined {
  const text = store.get('t:hence.effects', encodeKey([id]))
  return text === undefined ? undefined : JSON.parse(text)
}
