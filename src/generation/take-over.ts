import type { App, Constraint, Table } from '../app/index.ts'
import { type ClaimRow, claims, excessOf, type Usage, usage } from '../constraint/tables.ts'
import { placeOf } from '../constraint/usage.ts'
import { hexOf } from '../derivation/host-turn.ts'
import { eventId } from '../derivation/seed.ts'
import { type Timer, timers } from '../derivation/timers.ts'
import { identityOf } from '../identity.ts'
import type { ControlFact } from '../log/control-history.ts'
import { partitionOf } from '../log/partitions.ts'
import { decodeKey, encodeKey } from '../state/keys.ts'
import type { KeyRange, Store } from '../state/store.ts'
import { collectionsOf, indexOf, storedRow, type TableShape } from '../state/table.ts'

const entriesPerWrite = 10_000

/**
 * Prepares a store that one version derived for the next: fills new indexes, and removes the collections of
 * tables and indexes that are gone. If it is interrupted, it can be repeated.
 * @param store opened with the collections of both versions
 */
export async function takeOverTables(store: Store, before: App, after: App): Promise<void> {
  for (const old of before.tables.values()) {
    const table = after.tables.get(old.name)
    if (table === undefined) {
      for (const collection of collectionsOf([old])) await clear(store, collection)
      continue
    }
    for (const index of Object.keys(old.indexes)) {
      if (fieldsOf(old, index) === fieldsOf(table, index)) continue
      for (const collection of indexOf(old, index).collections) await clear(store, collection)
    }
    const fresh = newIndexes(old, table)
    if (fresh.length > 0) await fill(store, table, fresh)
  }
}

/**
 * Prepares the constraints in a store that one version derived for the next. Claims give way in the order of
 * the policy that is declared now. Where a declaration makes an excess, or decides an open violation, a
 * message to the judge of that key is due at once: a timer, so that so many are derived in one step, and all
 * before anything else for that key. If it is interrupted, it can be repeated.
 * @param fact the control record that brings the next version into force
 */
export async function takeOverConstraints(
  store: Store,
  before: App,
  after: App,
  { fact, logId }: { readonly fact: ControlFact; readonly logId: string },
): Promise<void> {
  const changed = (...of: readonly (keyof Constraint)[]) => {
    const essence = (each?: Constraint) => JSON.stringify(of.map((field) => each?.[field]))
    return [...after.constraints.values()].filter((each) => {
      const old = before.constraints.get(each.name)
      return old !== undefined && essence(old) !== essence(each)
    })
  }
  const ranked = new Map(changed('victims').map((each) => [each.name, each]))
  const { entries: placesOf } = indexOf(claims, 'victims')
  if (ranked.size > 0) {
    await rewrite<ClaimRow>(store, claims, (rowKey, row) => {
      const [, name] = decodeKey(['string', 'string', 'string'], rowKey).parts as string[]
      const constraint = ranked.get(name!)
      if (constraint === undefined) return []
      const placed = { ...row, ...placeOf(constraint.victims, row.priority, Math.abs(row.order)) }
      return [
        ...placesOf(rowKey, row).map(([name, key]) => [name, key, undefined] as const),
        ...placesOf(rowKey, placed).map(([name, key]) => [name, key, ''] as const),
        [`t:${claims.name}`, rowKey, claims.text!.encode(placed)],
      ]
    })
  }
  const reviewed = new Map(changed('limit', 'overbook', 'review').map((each) => [each.name, each]))
  if (reviewed.size === 0) return
  const type = 'hence:declared'
  const { number, at, positions } = fact
  const identity = identityOf(`take-over-${number}`, '')
  const { entries: dueOf } = indexOf(timers, 'due')
  await rewrite<Usage>(store, usage, (rowKey, row) => {
    const [key, name] = decodeKey(['string', 'string'], rowKey).parts as [string, string]
    const constraint = reviewed.get(name)
    if (constraint === undefined) return []
    if (row.violation === null && row.waiting === 0 && excessOf(constraint, row) === 0) return []
    const partition = partitionOf(key, positions.length)
    const id = hexOf(eventId(`${type} ${logId} ${number}`, key, name))
    const data = JSON.stringify({ constraint: name })
    const root = { identity, rootPartition: partition, rootOffset: positions[partition]! }
    const timer: Timer = { ...root, at, partition, data, id, depth: 0 }
    const timerKey = encodeKey([key, 'hence', type, name])
    return [
      [`t:${timers.name}`, timerKey, JSON.stringify(timer)],
      ...dueOf(timerKey, timer).map(([name, key]) => [name, key, ''] as const),
    ]
  })
}

/** Writes the entries that follow from each row of a table; undefined removes one. */
async function rewrite<Row>(
  store: Store,
  table: Pick<TableShape, 'name' | 'text'>,
  entriesOf: (
    rowKey: string,
    row: Row,
  ) => readonly (readonly [collection: string, key: string, text: string | Buffer | undefined])[],
): Promise<void> {
  for (let from = ''; ; ) {
    const rows = some(store, `t:${table.name}`, { from })
    if (rows.length === 0) return
    const entries = new Map<string, Map<string, string | Buffer | undefined>>()
    for (const [rowKey, stored] of rows) {
      for (const [name, key, value] of entriesOf(rowKey, storedRow(table, stored) as Row)) {
        const those = entries.get(name) ?? new Map()
        those.set(key, value)
        entries.set(name, those)
      }
    }
    if (entries.size > 0) await store.write([...entries].map(([name, those]) => [name, [...those]] as const))
    from = `${rows.at(-1)![0]}\0`
  }
}

async function clear(store: Store, collection: string): Promise<void> {
  for (;;) {
    const keys = some(store, collection, {}).map(([key]) => [key, undefined] as const)
    if (keys.length === 0) return
    await store.write([[collection, keys]])
  }
}

async function fill(store: Store, table: Table, names: readonly string[]): Promise<void> {
  const indexes = names.map((name) => indexOf(table, name))
  await rewrite(store, table, (rowKey, row) =>
    indexes.flatMap(({ entries }) => entries(rowKey, row).map(([name, key]) => [name, key, ''] as const)),
  )
}

function some(store: Store, collection: string, range: KeyRange): [key: string, value: string][] {
  const found: [string, string][] = []
  for (const entry of store.range(collection, range)) {
    found.push(entry)
    if (found.length === entriesPerWrite) break
  }
  return found
}

/** The names of the indexes of a table that the old table lacks, or has over other fields. */
export function newIndexes(old: Table, table: Table): string[] {
  return Object.keys(table.indexes).filter((index) => fieldsOf(old, index) !== fieldsOf(table, index))
}

function fieldsOf({ indexes }: Table, index: string): string | undefined {
  return indexes[index] && JSON.stringify(indexes[index])
}
