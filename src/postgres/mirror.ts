import type { Client } from 'pg'
import type { KeyKind, Table } from '../app/index.ts'
import { quoted } from '../app/name.ts'
import type { MirroredRow } from '../engine/batches.ts'

const typeOf: Readonly<Record<KeyKind, string>> = { string: 'text', number: 'double precision' }

export type Mirror = ReturnType<typeof mirrorOf>

/**
 * A table in PostgreSQL that mirrors a table of the app:
 *
 *   key text, part1 text | double precision, part2 …, value jsonb; PRIMARY KEY (key, part1, …)
 *
 * Text is ordered as in Hence, by its UTF-8 bytes (collation "C").
 */
export function mirrorOf(schema: string, name: string, { parts }: Table) {
  const table = `${quoted(schema)}.${quoted(name)}`
  const columns = ['key', ...parts.map((_, i) => `part${i + 1}`)]
  const types = ['text', ...parts.map((kind) => typeOf[kind])]
  const definitions = columns.map(
    (column, i) => `${column} ${types[i]}${types[i] === 'text' ? ' COLLATE "C"' : ''} NOT NULL`,
  )
  const gathered = `pg_temp.${quoted(`gathered ${name}`.slice(0, 63))}`
  const update = `DO UPDATE SET value = excluded.value WHERE ${table}.value IS DISTINCT FROM excluded.value`
  const isSame = columns.map((column) => `old.${column} = new.${column}`).join(' AND ')
  const unnest = (types: readonly string[], columns: readonly string[]) =>
    `unnest(${types.map((type, i) => `$${i + 1}::${type}[]`)}) AS new (${columns})`
  const allRows = unnest([...types, 'jsonb'], [...columns, 'value'])
  const keysOf = (rows: readonly MirroredRow[]): unknown[] =>
    columns.map((_, i) => rows.map(({ key }) => (typeof key[i] === 'string' ? storable(key[i]) : key[i])))
  const valuesOf = (rows: readonly MirroredRow[]) => [
    ...keysOf(rows),
    rows.map(({ json }) => storableJson(json!)),
  ]
  return {
    /** Its name and column types; if they change, the table is created again. */
    shape: `${name} (${types.join(', ')})`,

    async make(client: Client, anew: boolean): Promise<void> {
      if (anew) await client.query(`DROP TABLE IF EXISTS ${table}`)
      await client.query(
        `CREATE TABLE IF NOT EXISTS ${table} (${definitions}, value jsonb NOT NULL, PRIMARY KEY (${columns}))`,
      )
    },

    /** Writes the present state of some rows, each of them at most once. */
    async apply(client: Client, rows: readonly MirroredRow[]): Promise<void> {
      const there = rows.filter(({ json }) => json !== undefined)
      const gone = rows.filter(({ json }) => json === undefined)
      if (there.length > 0) {
        await client.query(
          `INSERT INTO ${table} SELECT * FROM ${allRows} ON CONFLICT (${columns}) ${update}`,
          valuesOf(there),
        )
      }
      if (gone.length > 0) {
        await client.query(
          `DELETE FROM ${table} AS old USING ${unnest(types, columns)} WHERE ${isSame}`,
          keysOf(gone),
        )
      }
    },

    /** Creates a temporary table for a complete copy; `gatherRows` fills it, and `replace` applies it. */
    async gather(client: Client): Promise<void> {
      await client.query(
        `CREATE TEMP TABLE ${gathered} (${definitions}, value jsonb NOT NULL) ON COMMIT DROP`,
      )
    },

    async gatherRows(client: Client, rows: readonly MirroredRow[]): Promise<void> {
      await client.query(`INSERT INTO ${gathered} SELECT * FROM ${allRows}`, valuesOf(rows))
    },

    /** Makes the table equal to the complete copy; rows that are equal already are not written. */
    async replace(client: Client): Promise<void> {
      await client.query(
        `DELETE FROM ${table} AS old WHERE NOT EXISTS (SELECT FROM ${gathered} AS new WHERE ${isSame})`,
      )
      // Two keys that differ in a NUL become one key in PostgreSQL; then one of them is kept.
      await client.query(
        `INSERT INTO ${table} SELECT DISTINCT ON (${columns}) * FROM ${gathered} ON CONFLICT ` +
          `(${columns}) ${update}`,
      )
    },
  }
}

/** PostgreSQL's text has no NUL, so it is replaced by U+FFFD, the replacement character. */
function storable(text: string): string {
  return text.replaceAll('\0', '\ufffd')
}

/** The same in JSON text, where NUL is `\\u0000` after an even number of backslashes. */
function storableJson(json: string): string {
  return json.includes('\\u0000') ? json.replace(/(?<!\\)((?:\\\\)*)\\u0000/g, '$1\ufffd') : json
}
