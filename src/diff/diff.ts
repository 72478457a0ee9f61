import type { App, Table } from '../app/index.ts'
import { decodeStoredOutcome, derivedOutcome } from '../derivation/stored-outcome.ts'
import { senderOf } from '../identity.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey } from '../state/keys.ts'
import type { Difference } from './difference.ts'
import { type ComparedSide, type Entries, unequalEntries } from './merge.ts'
import { systemTables } from './system-differences.ts'

export function comparedCollections(app: App): string[] {
  const system = systemTables.map(({ shape }) => shape.name)
  return ['decided', ...[...app.tables.keys(), ...system].map((name) => `t:${name}`)]
}

/**
 * Yields everything in which two derivations of the same messages differ: rows of the app by table and key,
 * outcomes by identity, effects by id, then claims, usage, violations and timers by their keys. The order
 * is that of the keys, so it does not depend on the history of the stores.
 *
 * Each store is read once, in order; one pair of entries is in memory at a time. The stores must not change
 * meanwhile: finish or leave the iteration before control returns to the event loop, or pass views. Now and
 * then it yields `undefined`, where the caller may let others work.
 */
export function* comparison(before: ComparedSide, after: ComparedSide): Generator<Difference | undefined> {
  const names = new Set([...before.app.tables.keys(), ...after.app.tables.keys()])
  for (const name of [...names].sort()) yield* tableDifferences(name, before, after)
  yield* outcomeDifferences(before, after)
  for (const table of systemTables) yield* table.comparison(before, after)
}

function* tableDifferences(
  name: string,
  before: ComparedSide,
  after: ComparedSide,
): Generator<Difference | undefined> {
  const old = before.app.tables.get(name)
  const fresh = after.app.tables.get(name)
  if (old && fresh && hasSameKeys(old, fresh)) {
    yield* rowDifferences(old, before.store.range(`t:${name}`), after.store.range(`t:${name}`))
    return
  }
  // With another scope or other kinds of key parts all old rows are removed, and all new ones added.
  if (old) yield* rowDifferences(old, before.store.range(`t:${name}`), [])
  if (fresh) yield* rowDifferences(fresh, [], after.store.range(`t:${name}`))
}

function hasSameKeys(a: Table, b: Table): boolean {
  // Names and kinds of key parts contain no comma.
  return a.scope === b.scope && a.parts.join() === b.parts.join()
}

function* rowDifferences(table: Table, before: Entries, after: Entries): Generator<Difference | undefined> {
  const { name, scope, parts } = table
  const kinds = ['string', ...parts] as const
  for (const entry of unequalEntries(before, after)) {
    if (entry === undefined) {
      yield undefined
      continue
    }
    const was = entry.before === undefined ? undefined : JSON.parse(entry.before)
    const is = entry.after === undefined ? undefined : JSON.parse(entry.after)
    // The order of fields does not count, as in the digest.
    if (was !== undefined && is !== undefined && canonicalJson(was) === canonicalJson(is)) continue
    yield {
      kind: 'row',
      table: name,
      scope,
      key: decodeKey(kinds, entry.key).parts,
      ...(was !== undefined && { before: was }),
      ...(is !== undefined && { after: is }),
    }
  }
}

function* outcomeDifferences(before: ComparedSide, after: ComparedSide): Generator<Difference | undefined> {
  for (const entry of unequalEntries(before.store.range('decided'), after.store.range('decided'))) {
    if (entry === undefined) {
      yield undefined
      continue
    }
    const { key: identity, before: was, after: is } = entry
    // One side has forgotten this request already; that depends on when it was pruned, not on the code.
    if (was === undefined || is === undefined) continue
    const { partition, offset } = decodeStoredOutcome(was)
    const [old, fresh] = [derivedOutcome(decodeStoredOutcome(was)), derivedOutcome(decodeStoredOutcome(is))]
    // No outcome is `null`, so it can stand for "not decided yet".
    if (canonicalJson(old ?? null) === canonicalJson(fresh ?? null)) continue
    yield {
      kind: 'outcome',
      ...senderOf(identity),
      partition,
      offset,
      ...(old && { before: old }),
      ...(fresh && { after: fresh }),
    }
  }
}
