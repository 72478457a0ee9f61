import type { Outcome } from '../app/index.ts'
import { requestIdOf } from '../identity.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey, type KeyKind, type KeyPart } from '../state/keys.ts'
import type { Store } from '../state/store.ts'
import type { TableShape } from '../state/table.ts'

/** What differs between two derivations of one log. */
export interface DerivedDiff {
  /** Tables in which something differs. */
  readonly tables: readonly TableDiff[]
  readonly outcomes: {
    readonly changed: number
    readonly samples: readonly {
      readonly requestId: string
      readonly before: Outcome
      readonly after: Outcome
    }[]
  }
}

export interface TableDiff {
  readonly table: string
  readonly added: number
  readonly removed: number
  readonly changed: number
  readonly samples: readonly RowDiff[]
}

export interface RowDiff {
  readonly key: readonly KeyPart[]
  readonly before: unknown
  readonly after: unknown
}

/** One derivation: its tables, and the store that a checkpoint has put all of it into. */
export interface Derived {
  readonly store: Store
  readonly tables: readonly TableShape[]
}

const samplesMax = 5

/** Compares row by row and outcome by outcome; both stores are read once, side by side. */
export function diffDerived(before: Derived, after: Derived): DerivedDiff {
  const names = new Set([...before.tables, ...after.tables].map(({ name }) => name))
  const tables = [...names].sort().map((name) => diffTable(name, before, after))
  let changed = 0
  const samples: DerivedDiff['outcomes']['samples'][number][] = []
  for (const { key, was, is } of merged(entries(before.store, 'decided'), entries(after.store, 'decided'))) {
    // A request that only one of them has forgotten by now is no difference of the code's.
    if (was === undefined || is === undefined || was === is) continue
    const [before, after] = [outcomeOf(was), outcomeOf(is)]
    if (canonicalJson(before) === canonicalJson(after)) continue
    changed++
    if (samples.length < samplesMax) samples.push({ requestId: requestIdOf(key), before, after })
  }
  return {
    tables: tables.filter(({ added, removed, changed }) => added + removed + changed > 0),
    outcomes: { changed, samples },
  }
}

function diffTable(table: string, before: Derived, after: Derived): TableDiff {
  const kindsBefore = kindsOf(before, table)
  const kindsAfter = kindsOf(after, table)
  const comparable = JSON.stringify(kindsBefore ?? kindsAfter) === JSON.stringify(kindsAfter ?? kindsBefore)
  const old = kindsBefore ? entries(before.store, `t:${table}`) : []
  const fresh = kindsAfter ? entries(after.store, `t:${table}`) : []
  const count = { added: 0, removed: 0, changed: 0 }
  const samples: RowDiff[] = []
  // Keys of other kinds name other rows, so those of before are gone, and those of now are new.
  const pairs = comparable ? merged(old, fresh) : [...merged(old, []), ...merged([], fresh)]
  for (const { key, was, is } of pairs) {
    if (was === is || sameRow(was, is)) continue
    count[was === undefined ? 'added' : is === undefined ? 'removed' : 'changed']++
    if (samples.length >= samplesMax) continue
    const kinds = was === undefined ? kindsAfter! : kindsBefore!
    samples.push({ key: decodeKey(kinds, key).parts, before: rowOf(was), after: rowOf(is) })
  }
  return { table, ...count, samples }
}

function kindsOf({ tables }: Derived, name: string): readonly KeyKind[] | undefined {
  const shape = tables.find((table) => table.name === name)
  return shape && ['string', ...shape.parts]
}

type Entries = Iterable<readonly [key: string, value: string]>

function entries(store: Store, collection: string): Entries {
  return store.range(collection)
}

/** Walks through two ordered collections at once. */
function* merged(
  old: Entries,
  fresh: Entries,
): Iterable<{ readonly key: string; readonly was: string | undefined; readonly is: string | undefined }> {
  const a = old[Symbol.iterator]()
  const b = fresh[Symbol.iterator]()
  let was = a.next()
  let is = b.next()
  while (!was.done || !is.done) {
    const first = was.done
      ? is.value![0]
      : is.done || was.value[0] <= is.value[0]
        ? was.value[0]
        : is.value[0]
    const inOld = !was.done && was.value[0] === first
    const inFresh = !is.done && is.value![0] === first
    yield { key: first, was: inOld ? was.value![1] : undefined, is: inFresh ? is.value![1] : undefined }
    if (inOld) was = a.next()
    if (inFresh) is = b.next()
  }
}

/** Rows are the same whatever the order of their fields, as they are for the digest. */
function sameRow(was: string | undefined, is: string | undefined): boolean {
  if (was === undefined || is === undefined) return false
  return canonicalJson(JSON.parse(was)) === canonicalJson(JSON.parse(is))
}

function rowOf(text: string | undefined): unknown {
  return text === undefined ? undefined : JSON.parse(text)
}

/** An outcome is stored behind the place of its request. */
function outcomeOf(text: string): Outcome {
  return JSON.parse(text.slice(text.indexOf(' ') + 1))
}
