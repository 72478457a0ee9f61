import type { App, Table } from '../app/index.ts'
import { decodeStoredOutcome, derivedOutcome } from '../derivation/stored-outcome.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey } from '../state/keys.ts'
import type { Difference } from './difference.ts'
import { type Readable, unequal } from './merge.ts'
import { ownTables } from './system-differences.ts'

/** What one version of an app has derived: the app, and a store that a checkpoint has put all of it into. */
export interface Derived {
  readonly app: App
  /** Opened with the collections that `comparedCollections` names, at least. */
  readonly store: Readable
}

/** The collections of a store that are compared. */
export function comparedCollections(app: App): string[] {
  const own = ownTables.map(({ shape }) => shape.name)
  return ['decided', ...[...app.tables.keys(), ...own].map((name) => `t:${name}`)]
}

/**
 * All that two derivations of the same messages have made differently: rows of the app by table and key, outcomes by
 * identity, effects by id, then claims, standings, violations and timers by their keys. The order is that of the keys, so it
 * is the same whatever the stores went through.
 *
 * Each store is read once, in order, and nothing is held but the pair that is compared. Stores may not change meanwhile:
 * use all of it up, or leave it, before control goes back to the event loop; or give views of them.
 *
 * @throws HenceError `state-unreadable` (operator)
 */
export function* differences(before: Derived, after: Derived): Generator<Difference> {
  for (const each of comparison(before, after)) if (each !== undefined) yield each
}

/** The same in small steps: now and then it gives `undefined`, also where there is no difference for long. */
export function* comparison(before: Derived, after: Derived): Generator<Difference | undefined> {
  const names = new Set([...before.app.tables.keys(), ...after.app.tables.keys()])
  for (const name of [...names].sort()) yield* rowDifferences(name, before, after)
  yield* outcomeDifferences(before, after)
  for (const table of ownTables) yield* table.comparison(before, after)
}

function* rowDifferences(name: string, before: Derived, after: Derived): Generator<Difference | undefined> {
  const old = before.app.tables.get(name)
  const fresh = after.app.tables.get(name)
  if (old && fresh && isKeyedAlike(old, fresh)) {
    yield* rowsOf(old, before.store.range(`t:${name}`), after.store.range(`t:${name}`))
    return
  }
  // Keys of other kinds, or of another scope, name other things: the rows of before are gone, and those of now are new.
  if (old) yield* rowsOf(old, before.store.range(`t:${name}`), [])
  if (fresh) yield* rowsOf(fresh, [], after.store.range(`t:${name}`))
}

function isKeyedAlike(a: Table, b: Table): boolean {
  // Names and kinds of key parts hold no comma.
  return a.scope === b.scope && a.parts.join() === b.parts.join()
}

type Entries = ReturnType<Readable['range']>

function* rowsOf(table: Table, before: Entries, after: Entries): Generator<Difference | undefined> {
  const { name, scope, parts } = table
  const kinds = ['string', ...parts] as const
  for (const each of unequal(before, after)) {
    if (each === undefined) {
      yield undefined
      continue
    }
    const was = each.before === undefined ? undefined : JSON.parse(each.before)
    const is = each.after === undefined ? undefined : JSON.parse(each.after)
    // Rows are the same whatever the order of their fields, as they are for the digest.
    if (was !== undefined && is !== undefined && canonicalJson(was) === canonicalJson(is)) continue
    yield {
      kind: 'row',
      table: name,
      scope,
      key: decodeKey(kinds, each.key).parts,
      ...(was !== undefined && { before: was }),
      ...(is !== undefined && { after: is }),
    }
  }
}

function* outcomeDifferences(before: Derived, after: Derived): Generator<Difference | undefined> {
  const pairs = unequal(before.store.range('decided'), after.store.range('decided'))
  for (const each of pairs) {
    if (each === undefined) {
      yield undefined
      continue
    }
    const { key: identity, before: was, after: is } = each
    // A request that only one of them has forgotten by now is no difference of the code's.
    if (was === undefined || is === undefined) continue
    const { partition, offset } = decodeStoredOutcome(was)
    const [old, fresh] = [derivedOutcome(decodeStoredOutcome(was)), derivedOutcome(decodeStoredOutcome(is))]
    // `null` stands for one that is not decided yet, and is no outcome.
    if (canonicalJson(old ?? null) === canonicalJson(fresh ?? null)) continue
    yield {
      kind: 'outcome',
      requestId: requestIdOf(identity),
      principal: principalOf(identity),
      partition,
      offset,
      ...(old && { before: old }),
      ...(fresh && { after: fresh }),
    }
  }
}
