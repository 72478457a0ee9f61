import type { Client } from 'pg'
import type { App } from '../app/index.ts'
import { quoted } from '../app/name.ts'
import { pause, systemClock } from '../clock.ts'
import { reporterOf } from '../report.ts'
import type { Source, SourceFeed, SourcePage, SourceSettings } from '../source/source.ts'
import { SourceRelay } from '../source/source.ts'
import { keepWorking, makeSchema, type PostgresConnection } from './work.ts'

/** A row as `pg` returns it: a `bigint` is a text. */
// biome-ignore lint/suspicious/noExplicitAny: the columns of a table of others.
export type SourceRow = Readonly<Record<string, any>>

export interface PostgresSourceOptions<A extends App> extends SourceSettings<A, SourceRow> {
  /** A connection string, or the options of `Client` in `pg`. */
  readonly connection: PostgresConnection
  readonly table: string
  /** Default `public`. */
  readonly schema?: string
  /**
   * The column that numbers the rows: whole numbers that an INSERT takes from a sequence (identity or serial,
   * with `CACHE 1`, the default). Default `id`.
   */
  readonly sequence?: string
  /** See `source`. Default: the name of the table. */
  readonly name?: string
  /** The schema of the table of positions, `hence_sources`. Default: that of the table. */
  readonly positions?: string
}

/** Rows are read and decided in pages of this size. */
const rowsAtOnce = 1_000
/** How often it looks whether transactions have ended, in milliseconds. */
const lookMsMin = 10
const lookMsMax = 500

/**
 * Makes requests of the rows that others insert into a table of PostgreSQL, such as the outbox of a service;
 * see `source`. It reads the table alone, in the order of its sequence, and passes a number by only once no
 * open transaction can still insert it. Its position is a row of `hence_sources`.
 *
 * One process at a time works for a name, others stand by. It needs the npm package `pg`, which you install.
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function postgresSource<A extends App>(options: PostgresSourceOptions<A>): Source {
  const { table, schema = 'public', sequence = 'id', name = table, positions = schema, connection } = options
  const title = `The PostgreSQL source "${name}"`
  const relay = new SourceRelay({ ...(options as unknown as PostgresSourceOptions<App>), name }, title)
  const log = options.engine.stats().logId
  const work = keepWorking({
    name: title,
    connection,
    lock: `hence source ${positions}.${name}`,
    report: reporterOf(options.report),
    run: (client, signal) =>
      relay.run(new TableFeed(client, { table, schema, sequence, name, positions, log }), signal, () => {}),
  })
  return { stats: () => relay.stats(), close: () => work.stop() }
}

interface FeedOptions {
  readonly table: string
  readonly schema: string
  readonly sequence: string
  readonly name: string
  readonly positions: string
  /** Of another log the position counts for nothing. */
  readonly log: string
}

/**
 * A sequence gives its numbers before the rows are visible, in any order. But an INSERT locks its table
 * before it takes a number, until its transaction has ended. So of the numbers up to the largest that was
 * seen, none can still come once all transactions have ended that held such a lock afterwards.
 */
class TableFeed implements SourceFeed<SourceRow> {
  readonly #client: Client
  readonly #options: FeedOptions
  readonly #table: string
  readonly #positions: string
  /** Up to this number every row is there that ever will be. */
  #complete: string | undefined

  constructor(client: Client, options: FeedOptions) {
    this.#client = client
    this.#options = options
    this.#table = `${quoted(options.schema)}.${quoted(options.table)}`
    this.#positions = `${quoted(options.positions)}.hence_sources`
  }

  async position(): Promise<string | undefined> {
    const { positions, name, log } = this.#options
    await makeSchema(this.#client, positions)
    await this.#client.query(
      `CREATE TABLE IF NOT EXISTS ${this.#positions} (
        name text, log text, position text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (name, log))`,
    )
    const { rows } = await this.#client.query(
      `SELECT position FROM ${this.#positions} WHERE name = $1 AND log = $2`,
      [name, log],
    )
    return rows[0]?.position
  }

  async pull(position: string | undefined, signal: AbortSignal): Promise<SourcePage<SourceRow>> {
    if (this.#complete === position) this.#complete = await this.#nextComplete(position, signal)
    if (this.#complete === position) return { messages: [], position }
    const column = quoted(this.#options.sequence)
    const { rows } = await this.#client.query(
      `SELECT ${column}::text AS hence_place, * FROM ${this.#table} WHERE ($1::bigint IS NULL OR ` +
        `${column} > $1) AND ${column} <= $2 ORDER BY ${column} LIMIT ${rowsAtOnce}`,
      [position ?? null, this.#complete],
    )
    const isAll = rows.length < rowsAtOnce
    return {
      messages: rows.map(({ hence_place: place, ...message }) => ({ place, message })),
      position: isAll ? this.#complete : rows.at(-1)!.hence_place,
    }
  }

  async keep(position: string): Promise<void> {
    const { name, log } = this.#options
    await this.#client.query(
      `INSERT INTO ${this.#positions} (name, log, position) VALUES ($1, $2, $3)
        ON CONFLICT (name, log) DO UPDATE SET position = $3, changed_at = now()`,
      [name, log, position],
    )
  }

  /** The largest number that there is, once all rows up to it are there; the same as before if that is it. */
  async #nextComplete(before: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    const { rows } = await this.#client.query(
      `SELECT max(${quoted(this.#options.sequence)})::text AS last FROM ${this.#table}`,
    )
    const last: string | null = rows[0].last
    if (last === null || (before !== undefined && BigInt(last) <= BigInt(before))) return before
    let open = await this.#inserting()
    for (let lookMs = lookMsMin; open.size > 0; lookMs = Math.min(2 * lookMs, lookMsMax)) {
      await pause(systemClock, lookMs, signal)
      if (signal.aborted) return before
      const now = await this.#inserting()
      open = new Set([...open].filter((each) => now.has(each)))
    }
    return last
  }

  /** The transactions that may have inserted rows. */
  async #inserting(): Promise<Set<string>> {
    const { rows } = await this.#client.query(
      `SELECT virtualtransaction AS open FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
        AND relation = $1::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [this.#table],
    )
    return new Set(rows.map(({ open }) => open))
  }
}
