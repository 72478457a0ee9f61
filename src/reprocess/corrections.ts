import { correctionReactionName } from '../app/app.ts'
import type { App } from '../app/index.ts'
import type { Chain } from '../derivation/chain.ts'
import { decodeStoredOutcome } from '../derivation/stored-outcome.ts'
import { comparison } from '../diff/diff.ts'
import type { Difference, EffectDifference, OutcomeDifference, RowDifference } from '../diff/difference.ts'
import type { EffectRow } from '../effect/outbox.ts'
import { identityOf } from '../identity.ts'
import type { Position } from '../log/log.ts'
import type { RecordedCorrection } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'
import { encodeKey } from '../state/keys.ts'
import type { Store } from '../state/store.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { CorrectedRequest } from './corrected-requests.ts'

/** A generation as it was saved: its app, and its store. */
interface CorrectedSide {
  readonly app: App
  readonly store: Pick<Store, 'range' | 'get'>
}

interface CorrectionSources {
  /** All partitions have forgotten effects that were done before this time. */
  readonly forgottenBefore: number
  /** Reads requests from the log; by `partition:offset`. */
  requests(positions: readonly Position[]): Promise<ReadonlyMap<string, CorrectedRequest>>
  /** Awaited now and then, so that others can work. */
  pause(): Promise<void> | undefined
}

export interface CorrectionCounts {
  readonly outcome: number
  readonly effect: number
  readonly row: number
}

/** A correction without its numbers; that of a row has no chain yet, because it follows from the promotion. */
export type CorrectionDraft = Pick<RecordedCorrection, 'scope' | 'key' | 'what'> & Partial<Chain>

/** A draft that was found; a new effect needs no correction, and is only counted. */
export interface FoundCorrection {
  readonly kind: FoundKind
  /** As JSON; '' once it is in a file. */
  text: string
  /** Where it is in a file. */
  place?: { readonly portion: WrittenPortion; readonly line: number }
}

type FoundKind = (typeof kindsInOrder)[number] | 'new'

/** The app is asked about an `outcome`, neither about one `unasked` nor about one that was `received` before. */
const kindsInOrder = ['row', 'outcome', 'effect', 'kept', 'unasked', 'received'] as const
/** These change nothing that code of the app reads, so requests do not wait for them. */
const kindsBeside: readonly FoundKind[] = ['unasked', 'received']

/** Corrections that are in a file. */
export interface WrittenPortion {
  /** The lines that no longer hold. */
  readonly dropped: number[]
}

/** How many outcomes are looked up in the log at a time. */
const outcomesAtOnce = 10_000

/**
 * The corrections of a promotion: for every outcome that a client has received and the new code decides
 * otherwise, for every effect whose content has changed or that the new code does not emit, and, in scopes
 * whose app has a `correct`, for every row that differs.
 *
 * Whether there is a correction under a key depends only on what both generations have under that key. So
 * most of the work is done while both go on, and at the end only the keys that have changed since are
 * compared again.
 */
export class CorrectionSet {
  /** By collection and key. A key has two findings if its table has moved to another scope, otherwise one. */
  readonly #found = new Map<string, FoundCorrection[]>()
  /** Those that are in no file yet. */
  readonly #fresh = new Set<FoundCorrection>()
  readonly #count = { row: 0, outcome: 0, effect: 0, kept: 0, unasked: 0, received: 0, new: 0 }

  /** Compares two generations, or only these keys. The stores must not change meanwhile. */
  async update(
    before: CorrectedSide,
    after: CorrectedSide,
    sources: CorrectionSources,
    keys?: WrittenKeys,
  ): Promise<void> {
    if (keys === undefined) return this.#compare(before, after, sources)
    for (const [collection, changed] of keys) {
      for (const key of changed) this.#drop(placeOf(collection, key))
    }
    await this.#compare(restrictedTo(keys, before), restrictedTo(keys, after), sources)
  }

  async #compare(before: CorrectedSide, after: CorrectedSide, sources: CorrectionSources): Promise<void> {
    const { pause } = sources
    let outcomes: OutcomeChange[] = []
    const addOutcome = async (change: OutcomeChange) => {
      outcomes.push(change)
      if (outcomes.length === outcomesAtOnce) await flush()
    }
    const flush = async () => {
      const requests = await sources.requests(outcomes)
      for (const each of outcomes) {
        const draft = outcomeDraft(each, after.app, requests.get(`${each.partition}:${each.offset}`)!)
        const kind = corrects(after.app, draft.scope) ? 'outcome' : 'unasked'
        this.#add('decided', each.identity, each.kept ? 'received' : kind, draft)
      }
      outcomes = []
    }
    for (const difference of comparison(before, after)) {
      const paused = pause()
      if (paused) await paused
      if (difference === undefined) continue
      if (isNewEffect(difference)) {
        const row = effectRow(after, difference.id)!
        // The generation before has forgotten that time: this one was delivered, or never asked for.
        const isForgotten = row.state === 'pending' && row.at < sources.forgottenBefore
        const asDone: EffectRow = { ...row, state: 'done', endedAt: row.at, tries: 0, correction: true }
        if (isForgotten) {
          const draft = effectDraft({ kind: 'effect', id: difference.id }, asDone)
          this.#add(effectRows, encodeKey([difference.id]), 'kept', draft)
        } else this.#put(effectRows, encodeKey([difference.id]), { kind: 'new', text: '' })
      }
      if (!isCorrected(difference, before.app, after.app)) continue
      if (difference.kind === 'outcome') {
        await addOutcome(outcomeChange(difference, before))
      } else if (difference.kind === 'row') {
        const collection = `t:${difference.table}`
        this.#add(collection, encodeKey(difference.key), 'row', rowDraft(difference))
      } else {
        const row = effectRow(before, difference.id)!
        // Nobody is asked about an effect of an earlier correction, or one that is only no longer asked for.
        const isKept = row.correction || (!difference.after && !corrects(after.app, row.scope))
        const draft = effectDraft(difference, row)
        this.#add(effectRows, encodeKey([difference.id]), isKept ? 'kept' : 'effect', draft)
      }
    }
    await flush()
    // An outcome that an earlier promotion corrected, and both generations derive alike, must be kept, too.
    for (const [identity, text] of before.store.range('decided')) {
      const paused = pause()
      if (paused) await paused
      if (!text.includes('\t') || this.#found.has(placeOf('decided', identity))) continue
      const { partition, offset, outcome: received, corrected: is } = decodeStoredOutcome(text)
      if (keepsReceived(after.store.get('decided', identity), received)) continue
      await addOutcome({ identity, partition, offset, received, before: is, after: is, kept: true })
    }
    await flush()
  }

  #add(collection: string, key: string, kind: FoundKind, draft: CorrectionDraft): void {
    this.#put(collection, key, { kind, text: JSON.stringify(draft) })
  }

  #put(collection: string, key: string, finding: FoundCorrection): void {
    const place = placeOf(collection, key)
    const there = this.#found.get(place)
    if (there === undefined) this.#found.set(place, [finding])
    else there.push(finding)
    this.#count[finding.kind]++
    if (finding.kind !== 'new') this.#fresh.add(finding)
  }

  #drop(place: string): void {
    for (const finding of this.#found.get(place) ?? []) {
      this.#count[finding.kind]--
      this.#fresh.delete(finding)
      finding.place?.portion.dropped.push(finding.place.line)
    }
    this.#found.delete(place)
  }

  get counts(): CorrectionCounts {
    const { row, outcome, effect, unasked } = this.#count
    return { outcome: outcome + unasked, effect, row }
  }

  /** How many effects only the new code emits. */
  get effectsNew(): number {
    return this.#count.new
  }

  /**
   * Yields what is in no file yet, in order of the kinds.
   * @param beside what requests need not wait for, or else the rest
   */
  *unwritten(beside: boolean): Generator<FoundCorrection> {
    const byKind = Map.groupBy(this.#fresh, ({ kind }) => kind)
    for (const kind of kindsInOrder) if (kindsBeside.includes(kind) === beside) yield* byKind.get(kind) ?? []
  }

  /** Corrections are the lines of a file now, and leave memory. */
  written(findings: readonly FoundCorrection[], portion: WrittenPortion): void {
    for (const [line, finding] of findings.entries()) {
      finding.text = ''
      finding.place = { portion, line }
      this.#fresh.delete(finding)
    }
  }
}

/** Whether a stored outcome has this one as the outcome received, and its own as `corrected`. */
function keepsReceived(text: string | undefined, received: unknown): boolean {
  if (!text?.includes('\t')) return false
  return canonicalJson(decodeStoredOutcome(text).outcome) === canonicalJson(received)
}

const effectRows = 't:hence.effects'

const placeOf = (collection: string, key: string): string => `${collection}\0${key}`

/** A side whose ranges have only these keys; `get` still finds every key. */
function restrictedTo(keys: WrittenKeys, { app, store }: CorrectedSide): CorrectedSide {
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

function isNewEffect(difference: Difference): difference is EffectDifference {
  return difference.kind === 'effect' && difference.before === undefined
}

function isCorrected(
  difference: Difference,
  before: App,
  app: App,
): difference is RowDifference | EffectDifference | OutcomeDifference {
  const { kind } = difference
  if (kind === 'outcome') return difference.before !== undefined && difference.after !== undefined
  // Of a table that the live code lacks nobody has seen a row.
  if (kind === 'row')
    return (
      before.tables.has(difference.table) &&
      app.tables.has(difference.table) &&
      corrects(app, difference.scope)
    )
  if (kind !== 'effect' || difference.before === undefined) return false
  const { before: was, after } = difference
  // If only the scope or key has changed, the outside world has received the right content. An effect that is
  // not asked for any more stays known, so that later code cannot use its id for something else.
  return after === undefined || canonicalJson(was.input) !== canonicalJson(after.input)
}

const corrects = (app: App, scope: string): boolean => app.reactions.has(correctionReactionName(scope))

interface OutcomeChange extends Position {
  readonly identity: string
  readonly received: unknown
  /** The outcomes that the two generations derive. */
  readonly before?: unknown
  readonly after?: unknown
  readonly kept?: true
}

function outcomeChange(difference: OutcomeDifference, { store }: CorrectedSide): OutcomeChange {
  const identity = identityOf(difference.requestId, difference.principal)
  return { ...difference, identity, received: decodeStoredOutcome(store.get('decided', identity)!).outcome }
}

function outcomeDraft(
  { identity, partition, offset, received, before, after, kept }: OutcomeChange,
  app: App,
  { type, input, key }: CorrectedRequest,
): CorrectionDraft {
  return {
    // Without a key the app has no rows that it could put right.
    scope: (key !== undefined && app.requests.get(type)?.scope) || '',
    key: key ?? '',
    identity,
    rootPartition: partition,
    rootOffset: offset,
    what: { kind: 'outcome', type, input, told: received, before, after, ...(kept && { kept }) },
  }
}

function rowDraft({ table, scope, key, before, after }: RowDifference): CorrectionDraft {
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

function effectDraft({ id, after }: EffectDifference, row: EffectRow): CorrectionDraft {
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

function effectRow({ store }: CorrectedSide, id: string): EffectRow | undefined {
  const text = store.get(effectRows, encodeKey([id]))
  return text === undefined ? undefined : JSON.parse(text)
}
