import { correctionReactionName } from '../app/app.ts'
import type { App } from '../app/index.ts'
import type { Chain } from '../derivation/chain.ts'
import { decodeStoredOutcome } from '../derivation/stored-outcome.ts'
import { type Derived as Compared, comparison } from '../diff/diff.ts'
import type { Difference, EffectDifference, OutcomeDifference, RowDifference } from '../diff/difference.ts'
import { type EffectRow, replacedError } from '../effect/outbox.ts'
import { identityOf } from '../identity.ts'
import type { Position } from '../log/log.ts'
import type { RecordedCorrection } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey, encodeKey } from '../state/keys.ts'
import type { Store } from '../state/store.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'

/** A derivation whose rows are looked up, too. */
type Derived = Compared & { readonly store: Pick<Store, 'range' | 'get'> }

/** What was asked of the log for a correction. */
export interface CorrectionSources {
  /** The requests that stand at some places, by their tokens. */
  requests(places: readonly Position[]): Promise<ReadonlyMap<string, CorrectedRequest>>
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

/** A correction whose place in the list and in the log is not known yet. */
type Draft = Pick<RecordedCorrection, 'scope' | 'key' | 'what'> & Partial<Chain>

/** What was found, and the text of its correction. */
type Found = readonly [kind: Kind, text: string]

type Kind = 'outcome' | 'effect' | 'row' | 'kept' | 'settled' | 'new'

/** What is new is no correction. */
const kindsInOrder = ['row', 'outcome', 'effect', 'kept', 'settled'] as const

/** Outcomes are looked up in the log so many at a time. */
const outcomesAtOnce = 10_000

/**
 * The corrections of a promotion: of every outcome that was told otherwise, of effects that were asked for and are
 * now others, and, where the app has a `correct` for the scope, of effects that are asked for no longer and of rows.
 *
 * What is worked out while both derivations go on need not be worked out again when they stand still, but where keys have changed
 * since: whatever is corrected depends on what both have under one key.
 */
export class Corrections {
  /** By collection and key, what is there: mostly one, and two where a table is of another scope by now. */
  readonly #found = new Map<string, Found[]>()

  /**
   * Compares two derivations.
   * @param keys those that may have changed since it was called last; undefined: all. The stores may not change meanwhile, and are views
   *   if `pause` gives control back to the event loop
   */
  async update(
    before: Derived,
    after: Derived,
    sources: CorrectionSources,
    keys?: WrittenKeys,
  ): Promise<void> {
    if (keys === undefined) return this.#compare(before, after, sources)
    for (const [collection, changed] of keys) {
      for (const key of changed) this.#found.delete(placeOf(collection, key))
    }
    await this.#compare(only(before, keys), only(after, keys), sources)
  }

  async #compare(before: Derived, after: Derived, sources: CorrectionSources): Promise<void> {
    const { pause } = sources
    let outcomes: OutcomeChange[] = []
    const addOutcome = async (change: OutcomeChange) => {
      outcomes.push(change)
      if (outcomes.length === outcomesAtOnce) await flush()
    }
    const flush = async () => {
      const requests = await sources.requests(outcomes)
      for (const each of outcomes) {
        const draft = ofOutcome(each, after.app, requests.get(`${each.partition}:${each.offset}`)!)
        this.#add('decided', each.identity, each.kept ? 'kept' : 'outcome', draft)
      }
      outcomes = []
    }
    for (const difference of comparison(before, after)) {
      const paused = pause()
      if (paused) await paused
      if (difference === undefined) continue
      // Nobody apologises for an apology.
      if (difference.kind === 'effect' && effectRow(before, difference.id)?.correction) continue
      if (isNewEffect(difference)) this.#put(effectRows, encodeKey([difference.id]), ['new', ''])
      if (!isCorrected(difference, after.app)) continue
      if (difference.kind === 'outcome') {
        await addOutcome(outcomeChange(difference, before))
      } else if (difference.kind === 'row') {
        const collection = `t:${difference.table}`
        this.#add(collection, encodeKey(difference.key), 'row', ofRow(difference))
      } else this.#add(effectRows, encodeKey([difference.id]), 'effect', ofEffect(difference, before))
    }
    await flush()
    for (const [identity, text] of before.store.range('decided')) {
      const paused = pause()
      if (paused) await paused
      if (!text.includes('\t') || this.#found.has(placeOf('decided', identity))) continue
      const { partition, offset, outcome: told, corrected: is } = decodeStoredOutcome(text)
      if (isTold(after.store.get('decided', identity), told)) continue
      await addOutcome({
        kind: 'outcome',
        identity,
        partition,
        offset,
        told,
        before: is,
        after: is,
        kept: true,
      })
    }
    await flush()
    for (const settled of settledEffects(before, after)) {
      const paused = pause()
      if (paused) await paused
      if (settled !== undefined) this.#add(effectRows, settled.at, 'settled', settled.draft)
    }
  }

  #add(collection: string, key: string, kind: Kind, draft: Draft): void {
    this.#put(collection, key, [kind, JSON.stringify(draft)])
  }

  #put(collection: string, key: string, found: Found): void {
    const place = placeOf(collection, key)
    const there = this.#found.get(place)
    if (there === undefined) this.#found.set(place, [found])
    else there.push(found)
  }

  get counts(): CorrectionCounts {
    return { outcome: this.#count('outcome'), effect: this.#count('effect'), row: this.#count('row') }
  }

  /** Effects that are asked for anew. */
  get effectsNew(): number {
    return this.#count('new')
  }

  #count(kind: Kind): number {
    let count = 0
    for (const there of this.#found.values()) for (const [each] of there) if (each === kind) count++
    return count
  }

  /**
   * The corrections as JSON, numbered.
   * @param promotion its number, the identity that approved it, and where it is going to stand in the first partition
   */
  *lines(promotion: {
    readonly number: number
    readonly identity: string
    readonly offset: number
  }): Iterable<string> {
    const { number, identity, offset } = promotion
    // What follows from no request follows from the promotion.
    const chain = JSON.stringify({ identity, rootPartition: 0, rootOffset: offset }).slice(1, -1)
    let n = 0
    for (const kind of kindsInOrder) {
      for (const there of this.#found.values()) {
        for (const [each, text] of there) {
          if (each !== kind) continue
          yield `{"promotion":${number},"n":${n++},${kind === 'row' ? `${chain},` : ''}${text.slice(1)}`
        }
      }
    }
  }
}

/** Whether it says already what was told, since it has applied the correction that did. */
function isTold(text: string | undefined, told: unknown): boolean {
  if (!text?.includes('\t')) return false
  return canonicalJson(decodeStoredOutcome(text).outcome) === canonicalJson(told)
}

const effectRows = 't:hence.effects'

function placeOf(collection: string, key: string): string {
  return `${collection}\0${key}`
}

/** A derivation as if it had those keys only; single ones are looked up in all of it. */
function only({ app, store }: Derived, keys: WrittenKeys): Derived {
  return {
    app,
    store: {
      get: (collection, key) => store.get(collection, key),
      *range(collection) {
        for (const key of [...(keys.get(collection) ?? [])].sort()) {
          const text = store.get(collection, key)
          if (text !== undefined) yield [key, text]
        }
      },
    },
  }
}

type Corrected = RowDifference | EffectDifference | OutcomeDifference

function isNewEffect(difference: Difference): difference is EffectDifference {
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
interface OutcomeChange extends Position {
  readonly kind: 'outcome'
  readonly identity: string
  readonly told: unknown
  readonly before?: unknown
  readonly after?: unknown
  readonly kept?: true
}

function outcomeChange(difference: OutcomeDifference, { store }: Derived): OutcomeChange {
  const identity = identityOf(difference.requestId, difference.principal)
  return { ...difference, identity, told: decodeStoredOutcome(store.get('decided', identity)!).outcome }
}

function ofOutcome(
  { identity, partition, offset, told, before, after, kept }: OutcomeChange,
  app: App,
  { type, input, key }: CorrectedRequest,
): Draft {
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

function ofRow({ table, scope, key, before, after }: RowDifference): Draft {
  return {
    scope,
    key: key[0] as string,
    what: {
      kind: 'row',
      table,
      rowKey: key,
      ...(before !== undefined && { before }),
      ...(after !== undefined && { after }),
    },
  }
}

function ofEffect({ id, after }: EffectDifference, before: Derived): Draft {
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
): Iterable<{ readonly at: string; readonly draft: Draft } | undefined> {
  for (const [key, text] of after.store.range(effectRows)) {
    yield undefined
    const row = JSON.parse(text) as EffectRow
    if (row.state !== 'pending') continue
    const old = before.store.get(effectRows, key)
    const ended = old === undefined ? undefined : (JSON.parse(old) as EffectRow)
    if (ended === undefined || ended.state === 'pending') continue
    // What was given up for something else has not been sent, and is asked for again.
    if (ended.state === 'dead' && ended.error === replacedError) continue
    if (!isSameInput(ended, row)) continue
    const { type, scope, identity, rootPartition, rootOffset } = row
    const id = decodeKey(['string'], key).parts[0] as string
    yield {
      at: key,
      draft: {
        scope,
        key: row.key,
        identity,
        rootPartition,
        rootOffset,
        what: { kind: 'effect', id, type, before: ended, after: row.input, settled: true },
      },
    }
  }
}

/** An id says of which type an effect is. */
function isSameInput(a: EffectRow, b: EffectRow): boolean {
  return a.input === b.input || canonicalJson(JSON.parse(a.input)) === canonicalJson(JSON.parse(b.input))
}

function effectRow({ store }: Derived, id: string): EffectRow | undefined {
  const text = store.get(effectRows, encodeKey([id]))
  return text === undefined ? undefined : JSON.parse(text)
}
