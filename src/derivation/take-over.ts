import type { App, Table } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import type { KeyRange, Store } from '../state/store.ts'
import { collectionsOf, indexOf } from '../state/table.ts'

const entriesPerWrite = 10_000

/**
 * Sees whether new code can go on with the rows that other code derived.
 * @throws HenceError `table-shape-changed` (change) when a table is keyed otherwise
 */
export function checkTakeOver(before: App, after: App): void {
  for (const table of after.tables.values()) {
    const old = before.tables.get(table.name)
    if (old === undefined || shapeOf(old) === shapeOf(table)) continue
    throw new HenceError(
      'table-shape-changed',
      'change',
      `Rows of table "${table.name}" were named by ${shapeOf(old)}, and the new code names them by ${shapeOf(table)}, so it cannot go on ` +
        'with those that are there. Derive everything again with the new code (`hence reprocess`), or give the table another name.',
    )
  }
}

/**
 * Makes a store that one code derived ready for another: indexes that are new are filled, and what belongs to tables and
 * indexes that are gone is removed. It may be done again after it was cut off.
 * @param store opened with the collections of both
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
    const fresh = Object.keys(table.indexes).filter(
      (index) => fieldsOf(old, index) !== fieldsOf(table, index),
    )
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

function shapeOf({ scope, parts }: Table): string {
  return `[${[`a key of scope ${scope}`, ...parts].join(', ')}]`
}

function fieldsOf({ indexes }: Table, index: string): string | undefined {
  return indexes[index] && JSON.stringify(indexes[index])
}
