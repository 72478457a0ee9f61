import type { Client } from 'pg'
import type { KeyKind, Table } from '../app/index.ts'
import { quoted } from '../app/name.ts'
import type { MirroredRow } from '../engine/batches.ts'

const typeOf: Readonly<Record<KeyKind, string>> = { string: 'text', number: 'double precision' }

/**
 * A table in PostgreSQL that mirrors a table of the app:
 *
 *   key text, part1 text | double precision, part2 …, value jsonb; PRIMARY KEY (key, part1, …)
 *
 * Text is ordered as in Hence, by its UTF-8 bytes (collation "C").
 */
export class Mirror {
  readonly #table: string
  readonly #name: string
  readonly #columns: readonly string[]
  readonly #types: readonly string[]

  constructor(schema: string, name: string, { parts }: Table) {
    this.#name = name
    this.#table = `${quoted(schema)}.${quoted(name)}`
    this.#columns = ['key', ...parts.map((_, i) => `part${i + 1}`)]
    this.#types = ['text', ...parts.map((kind) => typeOf[kind])]
  }

  /** Its name and column types; if they change, the table is created again. */
  get shape(): string {
    return `${this.#name} (${this.#types.join(', ')})`
  }

  async make(client: Client, anew: boolean): Promise<void> {
    if (anew) await client.query(`DROP TABLE IF EXISTS ${this.#table}`)
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${this.#table} (${this.#definitions()}, value jsonb NOT NULL, PRIMARY ` +
        `KEY (${this.#columns}))`,
    )
  }

  /** Writes the present state of some rows, each of them at most once. */
  async apply(client: Client, rows: readonly MirroredRow[]): Promise<void> {
    const there = rows.filter(({ json }) => json !== undefined)
    const gone = rows.filter(({ json }) => json === undefined)
    if (there.length > 0) {
      await client.query(
        `INSERT INTO ${this.#table} SELECT * FROM ${this.#unnest(true)} ON CONFLICT (${this.#columns}) ` +
          `${this.#update()}`,
        this.#values(there, true),
      )
    }
    if (gone.length > 0) {
      await client.query(
        `DELETE FROM ${this.#table} AS old USING ${this.#unnest(false)} WHERE ${this.#same('old', 'new')}`,
        this.#values(gone, false),
      )
    }
  }

  /** Creates a temporary table for a complete copy; `gatherRows` fills it, and `replace` applies it. */
  async gather(client: Client): Promise<void> {
    await client.query(
      `CREATE TEMP TABLE ${this.#gathered} (${this.#definitions()}, value jsonb NOT NULL) ON COMMIT DROP`,
    )
  }

  async gatherRows(client: Client, rows: readonly MirroredRow[]): Promise<void> {
    await client.query(
      `INSERT INTO ${this.#gathered} SELECT * FROM ${this.#unnest(true)}`,
      this.#values(rows, true),
    )
  }

  /** Makes the table equal to the complete copy; rows that are equal already are not written. */
  async replace(client: Client): Promise<void> {
    const gathered = this.#gathered
    await client.query(
      `DELETE FROM ${this.#table} AS old WHERE NOT EXISTS (SELECT FROM ${gathered} AS new WHERE ` +
        `${this.#same('old', 'new')})`,
    )
    // Two keys that differ in a NUL become one key in PostgreSQL; then one of them is kept.
    await client.query(
      `INSERT INTO ${this.#table} SELECT DISTINCT ON (${this.#columns}) * FROM ${gathered} ON CONFLICT ` +
        `(${this.#columns}) ${this.#update()}`,
    )
  }

  get #gathered(): string {
    return `pg_temp.${quoted(`gathered ${this.#name}`.slice(0, 63))}`
  }

  #definitions(): string {
    return this.#columns
      .map(
        (name, i) => `${name} ${this.#types[i]}${this.#types[i] === 'text' ? ' COLLATE "C"' : ''} NOT NULL`,
      )
      .join(', ')
  }

  #update(): string {
    return `DO UPDATE SET value = excluded.value WHERE ${this.#table}.value IS DISTINCT FROM excluded.value`
  }

  #unnest(withValues: boolean): string {
    const types = withValues ? [...this.#types, 'jsonb'] : this.#types
    const columns = withValues ? [...this.#columns, 'value'] : this.#columns
    return `unnest(${types.map((type, i) => `$${i + 1}::${type}[]`)}) AS new (${columns})`
  }

  #same(one: string, other: string): string {
    return this.#columns.map((name) => `${one}.${name} = ${other}.${name}`).join(' AND ')
  }

  #values(rows: readonly MirroredRow[], withValues: boolean): unknown[] {
    const values: unknown[] = this.#columns.map((_, i) =>
      rows.map(({ key }) => (typeof key[i] === 'string' ? storable(key[i]) : key[i])),
    )
    if (withValues) values.push(rows.map(({ json }) => storableJson(json!)))
    return values
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
