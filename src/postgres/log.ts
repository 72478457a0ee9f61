import type { Pool, PoolClient, Client as PostgresClient } from 'pg'
import { quoted } from '../app/name.ts'
import { assert } from '../assert.ts'
import { changeError, HenceError, operatorError, retryError } from '../failure.ts'
import { checkParameters } from '../log/address.ts'
import { checkPartition } from '../log/append-check.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../log/carrier.ts'
import { requirePackage } from '../optional-package.ts'
import { type Reporter, reporterOf } from '../report.ts'
import { configOf, type PostgresConnection } from './work.ts'

export interface PostgresLogOptions {
  /** A connection string, or the options of `Pool` in `pg`. */
  readonly connection: PostgresConnection
  /** The name of the log: one pair of tables can hold several. Default `main`. */
  readonly log?: string
  /** The schema of the tables. Default `public`. */
  readonly schema?: string
  /** The name of the table of batches; what is kept beside them is in `<table>_kept`. Default `hence_log`. */
  readonly table?: string
  /** How long the database may take for one statement, in milliseconds. Default 10,000. */
  readonly answerMs?: number
  /** Receives a warning where the database has one copy of the log only. Default: standard error. */
  readonly report?: Reporter
}

type TableNames = Pick<PostgresLogOptions, 'schema' | 'table'>

/** The version of the tables; a migration to a later one would follow the first in `postgresLogSql`. */
const version = 1
const connectMsMax = 10_000
const connectionsMax = 8
/** A statement returns batches of about so many bytes together, and so many batches, at most. */
const pageBytes = 8 * 1024 * 1024
const pageRows = 1_000

/** Returns the statements that create the tables, or bring them up to date; they may run again. */
export function postgresLogSql(names: TableNames = {}): string {
  const { schema, batches, kept } = tablesOf(names)
  return `
-- The tables of Hence's log in PostgreSQL, version ${version}.
CREATE TABLE IF NOT EXISTS ${batches} (
  log text COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  position bigint NOT NULL,
  base_offset bigint NOT NULL,
  before bytea NOT NULL,
  hash bytea NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (log, partition, position)
);
CREATE TABLE IF NOT EXISTS ${kept} (
  log text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (log, name)
);
INSERT INTO ${kept} (log, name, bytes) VALUES ('', 'version', '${version}')
  ON CONFLICT (log, name) DO UPDATE SET bytes = excluded.bytes;
-- The least rights of the user that Hence connects as:
--   GRANT USAGE ON SCHEMA ${schema} TO hence;
--   GRANT SELECT, INSERT ON ${batches} TO hence;
--   GRANT SELECT, INSERT, UPDATE ON ${kept} TO hence;
`
}

/**
 * A log in PostgreSQL, for `createEngine({ log })`. Each batch is one inserted row whose insertion requires
 * that the row before has the hash that it names. Nothing is updated, locked or listened to, and no statement
 * depends on the session, so it works behind a transaction pooler. It needs the npm package `pg`, which you
 * install, and the tables that `hence log migrate` or `postgresLogSql` makes.
 *
 * @throws HenceError `package-missing` (change)
 */
export function postgresLog(options: PostgresLogOptions): Carrier {
  requirePackage('pg', 'A log in PostgreSQL needs')
  return carrierOf(options)
}

const ownParameters = ['log', 'schema', 'table'] as const
/** The parameters of a connection string that `pg` honours; it passes over all others. */
const driverParameters = [
  ...['user', 'password', 'host', 'port', 'application_name', 'fallback_application_name', 'client_encoding'],
  ...['options', 'ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslnegotiation', 'uselibpqcompat'],
  ...['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'query_timeout'],
]

/**
 * The options in the address of a log, such as `postgres://user@host/database?log=shop`: `log`, `schema` and
 * `table`. Its other parameters are those of a connection string, such as `sslmode`.
 * @throws HenceError `option-invalid` (change)
 */
export function postgresLogAt(address: string): PostgresLogOptions {
  if (!URL.canParse(address))
    throw changeError('option-invalid', 'The address of the log cannot be read: is it a URL?')
  const url = new URL(address)
  checkParameters(url.searchParams, [...ownParameters, ...driverParameters])
  const options: { log?: string; schema?: string; table?: string } = {}
  for (const name of ownParameters) {
    const value = url.searchParams.get(name)
    if (value !== null) options[name] = value
    url.searchParams.delete(name)
  }
  return { connection: url.href, ...options }
}

/**
 * Makes the tables of a log, or brings them up to date.
 * @throws HenceError `carrier-unusable` (operator), `carrier-unreachable` (retry)
 */
export async function migratePostgresLog(options: PostgresLogOptions): Promise<void> {
  const carrier = carrierOf(options)
  try {
    await carrier.migrate()
  } finally {
    await carrier.close()
  }
}

function carrierOf(options: PostgresLogOptions): Carrier & { migrate(): Promise<void> } {
  const { log = 'main', connection, answerMs = 10_000 } = options
  const report = reporterOf(options.report)
  const { schema, batches, kept } = tablesOf(options)
  const name = `PostgreSQL (${placeOf(connection)}, table ${batches}, log "${log}")`
  let partitions: number | undefined
  let pool: Promise<Pool> | undefined

  async function facts(made?: CarrierFacts): Promise<CarrierFacts | undefined> {
    await checkServer()
    if (made !== undefined) {
      await write(`INSERT INTO ${kept} (log, name, bytes) VALUES ($1, 'facts', $2) ON CONFLICT DO NOTHING`, [
        log,
        Buffer.from(JSON.stringify(made)),
      ])
    }
    const text = await get('facts')
    const facts = text && (JSON.parse(text.toString()) as CarrierFacts)
    partitions = facts?.partitions
    return facts
  }

  async function append(
    partition: number,
    { bytes, before, hash, offset }: CarrierBatch,
    expected: number,
  ): Promise<number | undefined> {
    check(partition)
    const written = await write(
      `INSERT INTO ${batches} (log, partition, position, base_offset, before, hash, bytes) ` +
        'SELECT $1, $2, $3::bigint, $4, $5::bytea, $6, $7 WHERE $3::bigint = 0 OR EXISTS (SELECT FROM ' +
        `${batches} WHERE log = $1 AND partition = $2 AND position = $3::bigint - 1 AND hash = $5::bytea) ` +
        'ON CONFLICT DO NOTHING',
      [log, partition, expected, offset, before, hash, bytes],
    )
    return written === 0 ? undefined : expected
  }

  async function* read(partition: number, from: number): AsyncGenerator<CarriedBatch> {
    check(partition)
    for (let next = from; ; ) {
      // The sizes are known without reading the batches themselves.
      const rows = await query<{ position: string; bytes: Buffer; size: number; total: string }>(
        'SELECT position, bytes, size, total FROM (SELECT *, sum(size) OVER (ORDER BY position) AS total FROM ' +
          `(SELECT position, bytes, octet_length(bytes) AS size FROM ${batches} WHERE log = $1 AND ` +
          `partition = $2 AND position >= $3 ORDER BY position LIMIT ${pageRows}) AS page) AS pages ` +
          `WHERE total - size < ${pageBytes} ORDER BY position`,
        [log, partition, next],
      )
      for (const { position, bytes } of rows) {
        next = Number(position) + 1
        yield { position: next - 1, bytes }
      }
      if (rows.length < pageRows && Number(rows.at(-1)?.total ?? 0) < pageBytes) return
    }
  }

  async function end(partition: number): Promise<number> {
    check(partition)
    const [row] = await query<{ end: string }>(
      `SELECT coalesce(max(position) + 1, 0) AS end FROM ${batches} WHERE log = $1 AND partition = $2`,
      [log, partition],
    )
    return Number(row!.end)
  }

  async function ends(): Promise<readonly number[]> {
    const rows = await query<{ end: string }>(
      `SELECT coalesce((SELECT max(position) FROM ${batches} WHERE log = $1 AND partition = each) + 1, 0) ` +
        'AS end FROM generate_series(0, $2 - 1) AS each ORDER BY each',
      [log, partitions],
    )
    return rows.map(({ end }) => Number(end))
  }

  async function put(name: string, bytes: Uint8Array): Promise<void> {
    await write(
      `INSERT INTO ${kept} (log, name, bytes) VALUES ($1, $2, $3) ` +
        'ON CONFLICT (log, name) DO UPDATE SET bytes = excluded.bytes',
      [log, name, Buffer.from(bytes)],
    )
  }

  async function get(name: string): Promise<Buffer | undefined> {
    const [row] = await query<{ bytes: Buffer }>(`SELECT bytes FROM ${kept} WHERE log = $1 AND name = $2`, [
      log,
      name,
    ])
    return row?.bytes
  }

  async function migrate(): Promise<void> {
    await run(async (client) => {
      try {
        // Several statements without parameters run as one transaction.
        await client.query(postgresLogSql(options))
      } catch (error) {
        const { code, message } = error as Error & { code?: string }
        if (code !== insufficientPrivilege) throw error
        throw unusable(
          `${message}: connect as the owner of the tables, who needs the right to make them ` +
            `(\`GRANT USAGE, CREATE ON SCHEMA ${schema}\`)`,
          error,
        )
      }
    })
  }

  async function close(): Promise<void> {
    const closing = pool
    pool = undefined
    await (await closing?.catch(() => undefined))?.end()
  }

  function check(partition: number): void {
    assert(partitions !== undefined, 'the facts of a log are read before its batches')
    checkPartition(partition, partitions)
  }

  /** Checks the version of the tables, and that a commit will be durable. */
  async function checkServer(): Promise<void> {
    const [row] = await query<{
      version: Buffer | null
      fsync: string
      commit: string
      standbys: string
    }>(
      `SELECT (SELECT bytes FROM ${kept} WHERE log = '' AND name = 'version') AS version, ` +
        `current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit, ` +
        `current_setting('synchronous_standby_names') AS standbys`,
      [],
    )
    const found = row!.version?.toString() ?? 'none'
    if (found !== String(version))
      throw unusable(
        `its tables have version ${found}, and this version of Hence needs ${version}: run \`hence log migrate\``,
      )
    for (const [name, value] of Object.entries({ fsync: row!.fsync, synchronous_commit: row!.commit }))
      if (value === 'off')
        throw unusable(`its setting ${name} is off, so a crash would lose what was acknowledged: turn it on`)
    if (row!.standbys !== '' && row!.commit !== 'local') return
    const message = `${name} waits for no synchronous standby: a disk that fails takes the log with it.`
    report({ level: 'warning', code: 'log-not-replicated', message })
  }

  async function query<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    return (await run((client) => client.query<Row>(text, values))).rows
  }

  /** Runs one statement that writes; returns the number of rows written. */
  async function write(text: string, values: unknown[]): Promise<number> {
    return run(async (client) => {
      let warning: string | undefined
      const noticed = ({ code, message }: { code?: string | undefined; message?: string | undefined }) => {
        if (code !== '00000') warning = message
      }
      client.on('notice', noticed)
      try {
        const { rowCount } = await client.query(text, values)
        // A cancelled wait for a standby is no error, although the standby may not have what was committed.
        if (warning !== undefined) throw new Error(warning)
        return rowCount ?? 0
      } finally {
        client.off('notice', noticed)
      }
    })
  }

  async function run<Result>(act: (client: PoolClient) => Promise<Result>): Promise<Result> {
    let client: PoolClient | undefined
    try {
      pool ??= connect()
      client = await (await pool).connect()
      const result = await act(client)
      client.release()
      return result
    } catch (error) {
      // Another connection may lead to another server; and the statement may be running still.
      client?.release(true)
      throw failure(error)
    }
  }

  async function connect(): Promise<Pool> {
    const { Client, Pool } = (await import('pg')).default
    /** A pool forgets a client that cannot log in, and leaves its socket open until the server gives up. */
    class EndedClient extends Client {
      override connect(): Promise<PostgresClient>
      override connect(connected: (error: Error) => void): void
      override connect(connected?: (error: Error) => void): unknown {
        if (connected === undefined) return super.connect()
        super.connect((error: Error) => {
          if (error) void this.end()
          connected(error)
        })
      }
    }
    const made = new Pool({
      connectionTimeoutMillis: connectMsMax,
      query_timeout: answerMs,
      keepAlive: true,
      max: connectionsMax,
      Client: EndedClient,
      ...configOf(connection),
    })
    // A connection that breaks while it is idle leaves the pool; the next statement gets another one.
    made.on('error', () => {})
    // A statement reports the end of its connection; between two statements, nobody would.
    made.on('connect', (client) => client.on('error', () => {}))
    return made
  }

  function failure(cause: unknown): HenceError {
    if (cause instanceof HenceError) return cause
    const { code = '', message, syscall } = cause as Error & { code?: string; syscall?: string }
    // A socket that is not there is another failure.
    const advice = syscall === 'open' ? 'correct its path in the connection' : adviceOf(code, message)
    if (advice !== undefined) return unusable(`${message}: ${advice}`, cause)
    const isLate = message === 'Query read timeout'
    const why = isLate
      ? 'it gives no answer; does it wait for a synchronous standby that is away?'
      : `${message}.`
    const text = `${name} cannot be reached at present: ${why} Whatever was being written is there whole or not at all; retry.`
    return retryError('carrier-unreachable', text, { cause })
  }

  function unusable(what: string, cause?: unknown): HenceError {
    const text = `${name} cannot have the log: ${what}.`
    return operatorError('carrier-unusable', text, { cause })
  }

  return {
    name,
    // A parameter of a statement may have 1 GiB; a batch is in memory several times.
    batchBytesMax: 128 * 1024 * 1024,
    ...{ facts, append, read, end, ends, put, get, migrate, close },
  }
}

const insufficientPrivilege = '42501'

/** An operator's next step about an error of PostgreSQL or TLS; undefined if a retry may succeed. */
function adviceOf(code: string, message: string): string | undefined {
  // `pg` gives these errors no code.
  if (message.includes('does not support SSL'))
    return 'turn TLS on there (`ssl = on`), or connect without `sslmode`'
  if (code === '42P01' || code === '42703') return 'make the tables with `hence log migrate`'
  if (code === '3F000') return 'create the schema'
  if (code === insufficientPrivilege) return 'grant the rights that `hence log migrate --print` ends with'
  if (code.startsWith('28') || message.startsWith('SASL: '))
    return 'check the user, the password and `pg_hba.conf`'
  if (code === '3D000') return 'create the database'
  if (/^(22|23|42|54)/.test(code)) return 'are these the tables that `hence log migrate` made?'
  if (/CERT|^ERR_TLS|SELF_SIGNED|ISSUER/.test(code)) return 'check the TLS settings of the connection'
  return undefined
}

/** The names, quoted. */
function tablesOf({ schema = 'public', table = 'hence_log' }: TableNames) {
  return {
    schema: quoted(schema),
    batches: `${quoted(schema)}.${quoted(table)}`,
    kept: `${quoted(schema)}.${quoted(`${table}_kept`)}`,
  }
}

/** The host and database of a connection, without any password. */
function placeOf(connection: PostgresConnection): string {
  if (typeof connection !== 'string')
    return `${connection.host ?? 'localhost'}/${connection.database ?? connection.user ?? ''}`
  const url = URL.parse(connection)
  if (url === null) return 'a connection string'
  return `${url.host || (url.searchParams.get('host') ?? 'localhost')}${url.pathname}`
}
