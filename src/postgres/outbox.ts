import type { Client } from 'pg'
import type { App } from '../app/index.ts'
import { isSystemMessage, quoted } from '../app/name.ts'
import { orAborted, pause, systemClock } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { changeError, HenceError, thrownText } from '../failure.ts'
import { parseStrict } from '../json.ts'
import { type Reporter, reporterOf } from '../report.ts'
import { keepWorking, makeSchema, type PostgresConnection } from './work.ts'

export interface PostgresOutboxOptions<A extends App> {
  readonly engine: Engine<A>
  /** A connection string, or the options of `Client` in `pg`. */
  readonly connection: PostgresConnection
  /** The schema of the table of requests. Default `public`. */
  readonly schema?: string
  /** The name of the table. Default `hence_requests`. */
  readonly table?: string
  /** How many requests are in flight at a time. Default 256. */
  readonly batch?: number
  /** How often the table is polled, in case a notification is lost, in milliseconds. Default 1,000. */
  readonly pollMs?: number
  /** How long rows with an outcome are kept, in milliseconds, not those with an error. Default: for ever. */
  readonly keepMs?: number
  readonly report?: Reporter
}

export interface PostgresOutbox {
  /** Resolves when the database connection is closed. Requests in flight get their outcome from the next relay. */
  close(): Promise<void>
}

const delayMsMin = 100
const delayMsMax = 10_000
const forgetEveryMs = 60_000

/**
 * Returns the statements that create the table of requests, for your own migrations; the relay also runs
 * them.
 *
 *   INSERT INTO hence_requests (id, type, input, principal) VALUES ($1, $2, $3, $4)
 *
 * Insert a request in the transaction that it belongs to: it exists if and only if that transaction is
 * committed.
 */
export function postgresOutboxSql({
  schema = 'public',
  table = 'hence_requests',
}: {
  readonly schema?: string
  readonly table?: string
} = {}): string {
  const name = `${quoted(schema)}.${quoted(table)}`
  const notify = `${quoted(schema)}.${quoted(`${table}_notify`)}`
  return `
CREATE TABLE IF NOT EXISTS ${name} (
  number bigint GENERATED ALWAYS AS IDENTITY,
  id text NOT NULL,
  type text NOT NULL,
  input json NOT NULL,
  principal text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  decided_at timestamptz,
  outcome json,
  token text,
  error json,
  PRIMARY KEY (principal, id)
);
CREATE INDEX IF NOT EXISTS ${quoted(`${table}_undecided`)} ON ${name} (number) WHERE decided_at IS NULL;
CREATE OR REPLACE FUNCTION ${notify}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify(TG_ARGV[0], '');
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER ${quoted(`${table}_notify`)} AFTER INSERT ON ${name}
  FOR EACH STATEMENT EXECUTE FUNCTION ${notify}('${channelOf(schema, table).replaceAll("'", "''")}');
`
}

/**
 * Relays requests that services insert into a table of PostgreSQL to the engine, each with effect once: a
 * service writes its own rows and the request in one transaction, and the relay sends the request under its
 * id until its outcome is in the table. A request that can never be accepted, for example because its input
 * does not fit the schema, gets an error in the table and is not retried.
 *
 * Requests are sent in the order of insertion, several at a time; a request that is retried may be overtaken.
 * One process at a time is the relay, others stand by. It needs the npm package `pg`, which you install.
 *
 * A database user who may insert rows can act for any principal.
 *
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function postgresOutbox<A extends App>(options: PostgresOutboxOptions<A>): PostgresOutbox {
  const { connection, schema = 'public', table = 'hence_requests' } = options
  const report = reporterOf(options.report)
  const { batch = 256, pollMs = 1_000, keepMs } = options
  for (const [name, value] of Object.entries({ batch, pollMs })) {
    if (Number.isInteger(value) && value >= 1) continue
    throw changeError('option-invalid', `\`${name}\` must be a positive integer, not ${value}.`)
  }
  const engine = options.engine as unknown as Engine<App>
  const work = keepWorking({
    name: `The PostgreSQL outbox "${schema}.${table}"`,
    connection,
    lock: `hence outbox ${schema}.${table}`,
    report,
    run: relay({ engine, schema, table, report, batch, pollMs, keepMs }),
  })
  return { close: () => work.stop() }
}

interface WaitingRow {
  readonly number: string
  readonly id: string
  readonly type: string
  readonly input: string
  readonly principal: string
}

/** The result that is written to a row. */
interface DecidedRow {
  readonly number: string
  readonly outcome: string | null
  readonly token: string | null
  readonly error: string | null
}

type RelayOptions = Omit<Required<PostgresOutboxOptions<App>>, 'connection' | 'keepMs'> & {
  readonly keepMs: number | undefined
}

/** Relays the requests of a table while its process has the lock. */
function relay({ engine, schema, table, report, batch, pollMs, keepMs }: RelayOptions) {
  const name = `${quoted(schema)}.${quoted(table)}`
  /** The last error that was reported. */
  let reported = ''

  async function run(client: Client, signal: AbortSignal): Promise<void> {
    await makeTable(client)
    let wake = new AbortController()
    client.on('notification', () => wake.abort())
    signal.addEventListener('abort', () => wake.abort(), { once: true })
    await client.query(`LISTEN ${quoted(channelOf(schema, table))}`)
    let delayMs = delayMsMin
    let forgetAt = 0
    while (!signal.aborted) {
      wake = new AbortController()
      const rows = await undecided(client)
      const { decided, again } = await send(rows, signal)
      await store(client, decided)
      if (keepMs !== undefined && systemClock.now() >= forgetAt) {
        forgetAt = systemClock.now() + forgetEveryMs
        await client.query(
          `DELETE FROM ${name} WHERE outcome IS NOT NULL AND decided_at < now() - $1 * interval '1 ms'`,
          [keepMs],
        )
      }
      if (signal.aborted) return
      if (again) {
        await pause(systemClock, delayMs * (0.5 + Math.random() / 2), signal)
        delayMs = Math.min(2 * delayMs, delayMsMax)
        continue
      }
      delayMs = delayMsMin
      if (rows.length < batch) await pause(systemClock, pollMs, wake.signal)
    }
  }

  /** Creates the table only if it is missing, so that the relay need not own it. */
  async function makeTable(client: Client): Promise<void> {
    const { rowCount } = await client.query(
      'SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = $2',
      [schema, table],
    )
    if (rowCount !== 0) return
    await makeSchema(client, schema)
    await client.query(postgresOutboxSql({ schema, table }))
  }

  async function undecided(client: Client): Promise<WaitingRow[]> {
    const { rows } = await client.query(
      `SELECT number, id, type, input::text, principal FROM ${name} WHERE decided_at IS NULL ORDER ` +
        'BY number LIMIT $1',
      [batch],
    )
    return rows
  }

  /** @returns the rows that were decided, and whether others have to be sent again */
  async function send(
    rows: readonly WaitingRow[],
    signal: AbortSignal,
  ): Promise<{ decided: DecidedRow[]; again: boolean }> {
    const decided: DecidedRow[] = []
    let again = false
    const sent = rows.map(async (row) => {
      const { number, id, type, input, principal } = row
      try {
        if (isSystemMessage(type)) throw notOfTheApp(type)
        const reply = await engine.submit(type, parseStrict(input) as never, {
          requestId: id,
          principal,
        })
        const { requestId: _, token, replayed: __, ...outcome } = reply
        decided.push({ number, outcome: JSON.stringify(outcome), token, error: null })
        reported = ''
      } catch (error) {
        if (error instanceof HenceError && error.advice === 'change') {
          const { code, message } = error
          decided.push({ number, outcome: null, token: null, error: JSON.stringify({ code, message }) })
          reportOn(
            'alarm',
            'postgres-outbox-refused',
            `Request ${id} (${type}) can never be accepted: ${message}`,
          )
        } else {
          again = true
          if (!signal.aborted) heldUp(error)
        }
      }
    })
    // The engine still decides the requests in flight; the next relay writes their outcomes.
    await orAborted(Promise.all(sent), signal)
    return { decided: [...decided], again }
  }

  async function store(client: Client, decided: readonly DecidedRow[]): Promise<void> {
    if (decided.length === 0) return
    const column = (name: keyof DecidedRow) => decided.map((each) => each[name])
    await client.query(
      `UPDATE ${name} AS row SET decided_at = now(), outcome = new.outcome, token = new.token, error = new.error
        FROM unnest($1::bigint[], $2::json[], $3::text[], $4::json[]) AS new (number, outcome, token, error)
        WHERE row.number = new.number`,
      [column('number'), column('outcome'), column('token'), column('error')],
    )
  }

  /** Reports an outage once, however many requests it affects. */
  function heldUp(error: unknown): void {
    const message = thrownText(error)
    if (message === reported) return
    reported = message
    reportOn(
      'warning',
      'postgres-held-up',
      `Requests wait in their table and are sent again later: ${message}`,
    )
  }

  function reportOn(level: 'warning' | 'alarm', code: string, message: string): void {
    report({ level, code, message: `The PostgreSQL outbox "${schema}.${table}": ${message}` })
  }

  return run
}

/** Requests of operators need more than the right to insert a row. */
function notOfTheApp(type: string): HenceError {
  return changeError('unknown-request', `The app defines no request "${type}".`)
}

/** The name of a channel in PostgreSQL has at most 63 bytes. */
function channelOf(schema: string, table: string): string {
  return Buffer.from(`${schema}.${table}`).subarray(0, 63).toString()
}
