import type { App, Table } from '../app/index.ts'
import { decodeStoredOutcome, derivedOutcome, type StoredOutcome } from '../derivation/stored-outcome.ts'
import { senderOf } from '../identity.ts'
import { decodeKey } from '../state/keys.ts'
import type { Difference } from './difference.ts'
import { type ComparedSide, differences, type Entries } from './merge.ts'
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

function rowDifferences(table: Table, before: Entries, after: Entries): Generator<Difference | undefined> {
  const { name, scope, parts } = table
  const kinds = ['string', ...parts] as const
  return differences<unknown>(before, after, {
    read: (text) => (text === undefined ? undefined : JSON.parse(text)),
    difference(key, sides) {
      return { kind: 'row', table: name, scope, key: decodeKey(kinds, key).parts, ...sides }
    },
  })
}

function outcomeDifferences(before: ComparedSide, after: ComparedSide): Generator<Difference | undefined> {
  return differences<StoredOutcome>(before.store.range('decided'), after.store.range('decided'), {
    read: (text) => (text === undefined ? undefined : decodeStoredOutcome(text)),
    // No outcome is `null`, so it can stand for "not decided yet".
    compared: (stored) => derivedOutcome(stored) ?? null,
    difference(identity, { before: was, after: is }) {
      // One side has forgotten this request already; that depends on when it was pruned, not on the code.
      if (was === undefined || is === undefined) return undefined
      const { partition, offset } = was
      const [old, fresh] = [derivedOutcome(was), derivedOutcome(is)]
      const sides = { ...(old && { before: old }), ...(fresh && { after: fresh }) }
      return { kind: 'outcome', ...senderOf(identity), partition, offset, ...sides }
    },
  })
}
