import type { App, Table } from '../app/index.ts'
import type { KeyRange, Store } from '../state/store.ts'
import { collectionsOf, indexOf } from '../state/table.ts'

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

async function clear(store: Store, collection: string): Promise<void> {
  for (;;) {
    const keys = some(store, collection, {}).map(([key]) => [key, undefined] as const)
    if (keys.length === 0) return
    await store.write([[collection, keys]])
  }
}

async function fill(store: Store, table: Table, names: readonly string[]): Promise<void> {
  const indexes = names.map((name) => indexOf(table, name))
  for (let from = ''; ; ) {
    const rows = some(store, `t:${table.name}`, { from })
    if (rows.length === 0) return
    const entries = new Map<string, [string, string][]>()
    for (const [rowKey, text] of rows) {
      const row = JSON.parse(text)
      for (const index of indexes) {
        for (const [collection, key] of index.entries(rowKey, row)) {
          const those = entries.get(collection) ?? []
          those.push([key, ''])
          entries.set(collection, those)
        }
      }
    }
    await store.write([...entries])
    from = `${rows.at(-1)![0]}\0`
  }
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
