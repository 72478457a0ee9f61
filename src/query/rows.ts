import type { KeyPart, Query, Row } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { encodeKey } from '../state/keys.ts'
import type { TableRow, TableState } from '../state/table.ts'

/** The row under a key, as it is kept. */
export function rowOf(table: TableState, key: readonly KeyPart[]): unknown {
  const { name, kinds } = table
  const isList = Array.isArray(key) && key.length === kinds.length
  if (isList && key.every((part, i) => typeof part === kinds[i])) return table.get(encodeKey(key))
  throw changeError(
    'key-invalid',
    `A row of table "${name}" is named by the list [${kinds.join(', ')}], not by ${JSON.stringify(key)}.`,
  )
}

/** The rows that match a query; `out` makes the value that the caller gets. */
export function rowsOf(
  table: TableState,
  query: Query,
  until: ((row: TableRow) => boolean) | undefined,
  out: (value: unknown) => unknown,
): Row<KeyPart[], unknown>[] {
  if (typeof query === 'object' && query !== null)
    return table.scan(query, undefined, until).map(({ key, value }) => ({ key, value: out(value) as never }))
  throw changeError(
    'query-invalid',
    `A query of table "${table.name}" is an object, for example { prefix: [...], limit: 10 }, not ` +
      `${JSON.stringify(query)}.`,
  )
}
