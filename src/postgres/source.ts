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
      relay.run(tableFeed(client, { table, schema, sequence, name, positions, log }), signal, () => {}),
  })
  return { stats: () => relay.stats(), close: () => work.stop() }
}

/**
 * A sequence gives its numbers before the rows are visible, in any order. But an INSERT locks its table
 * before it takes a number, until its transaction has ended. So of the numbers up to the largest that was
 * seen, none can still come once all transactions have ended that held such a lock afterwards.
 */
function tableFeed(
  client: Client,
  options: {
    readonly table: string
    readonly schema: string
    readonly sequence: string
    readonly name: string
    readonly positions: string
    /** Of another log the position counts for nothing. */
    readonly log: string
  },
): SourceFeed<SourceRow> {
  const { name, log } = options
  const table = `${quoted(options.schema)}.${quoted(options.table)}`
  const positions = `${quoted(options.positions)}.hence_sources`
  const column = quoted(options.sequence)
  /** Up to this number every row is there that ever will be. */
  let complete: string | undefined

  async function position(): Promise<string | undefined> {
    await makeSchema(client, options.positions)
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${positions} (
        name text, log text, position text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (name, log))`,
    )
    const { rows } = await client.query(`SELECT position FROM ${positions} WHERE name = $1 AND log = $2`, [
      name,
      log,
    ])
    return rows[0]?.position
  }

  async function pull(position: string | undefined, signal: AbortSignal): Promise<SourcePage<SourceRow>> {
    if (complete === position) complete = await nextComplete(position, signal)
    if (complete === position) return { messages: [], position }
    const { rows } = await client.query(
      `SELECT ${column}::text AS hence_place, * FROM ${table} WHERE ($1::bigint IS NULL OR ` +
        `${column} > $1) AND ${column} <= $2 ORDER BY ${column} LIMIT ${rowsAtOnce}`,
      [position ?? null, complete],
    )
    const isAll = rows.length < rowsAtOnce
    return {
      messages: rows.map(({ hence_place: place, ...message }) => ({ place, message })),
      position: isAll ? complete : rows.at(-1)!.hence_place,
    }
  }

  async function keep(position: string): Promise<void> {
    await client.query(
      `INSERT INTO ${positions} (name, log, position) VALUES ($1, $2, $3)
        ON CONFLICT (name, log) DO UPDATE SET position = $3, changed_at = now()`,
      [name, log, position],
    )
  }

  /** The largest number that there is, once all rows up to it are there; the same as before if that is it. */
  async function nextComplete(before: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    const { rows } = await client.query(`SELECT max(${column})::text AS last FROM ${table}`)
    const last: string | null = rows[0].last
    if (last === null || (before !== undefined && BigInt(last) <= BigInt(before))) return before
    let open = await inserting()
    for (let lookMs = lookMsMin; open.size > 0; lookMs = Math.min(2 * lookMs, lookMsMax)) {
      await pause(systemClock, lookMs, signal)
      if (signal.aborted) return before
      const now = await inserting()
      open = new Set([...open].filter((each) => now.has(each)))
    }
    return last
  }

  /** The transactions that may have inserted rows. */
  async function inserting(): Promise<Set<string>> {
    const { rows } = await client.query(
      `SELECT virtualtransaction AS open FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
        AND relation = $1::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [table],
    )
    return new Set(rows.map(({ open }) => open))
  }

  return { position, pull, keep }
}
