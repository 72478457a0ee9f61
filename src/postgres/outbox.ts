import type { Client } from 'pg'
import type { App } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { pause } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import { printReport, type Reporter } from '../report.ts'
import { parseStrict } from '../server/json.ts'
import { type Connection, keepWorking, makeSchema, quoted } from './work.ts'

export interface PostgresOutboxOptions<A extends App> {
  readonly engine: Engine<A>
  /** Where from: a connection string, or what `Client` of pg takes. */
  readonly connection: Connection
  /** Where the table of requests is made. Default `public`. */
  readonly schema?: string
  /** Its name. Default `hence_requests`. */
  readonly table?: string
  /** How many requests are under way at once. Default 256. */
  readonly batch?: number
  /** How long a request may go unnoticed when its notification is lost, in milliseconds. Default 1,000. */
  readonly pollMs?: number
  /** How long rows with an outcome are kept, in milliseconds. Default: for ever. Those with an error stay. */
  readonly keepMs?: number
  readonly report?: Reporter
}

export interface PostgresOutbox {
  /** Resolves when it has let go of the database. Requests that it had sent get their outcome from the next relay. */
  close(): Promise<void>
}

const delayMsMin = 100
const delayMsMax = 10_000
const forgetEveryMs = 60_000

/**
 * The statements that make the table of requests, for migrations of your own; the relay runs them too.
 *
 *   INSERT INTO hence_requests (id, type, input, principal) VALUES ($1, $2, $3, $4)
 *
 * in the transaction of whatever it belongs to: the request exists if and only if that is committed.
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
 * Brings requests that services insert into a table of PostgreSQL to the engine, each once in effect: a service writes its
 * own rows and the request in one transaction, and the relay sends the request under its id until its outcome is in
 * the table. What can never be taken, such as an input that does not fit its schema, gets its error there, and is not
 * tried again.
 *
 * Requests are sent in the order of their insertion, several at a time; one that has to be tried again may come behind
 * later ones. One process at a time relays; another one waits. It needs the npm package `pg`, which you install.
 *
 * Whoever may insert acts for any principal that they name.
 *
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function postgresOutbox<A extends App>(options: PostgresOutboxOptions<A>): PostgresOutbox {
  const { connection, schema = 'public', table = 'hence_requests', report = printReport } = options
  const { batch = 256, pollMs = 1_000, keepMs } = options
  for (const [name, value] of Object.entries({ batch, pollMs })) {
    if (Number.isInteger(value) && value >= 1) continue
    throw new HenceError(
      'option-invalid',
      'change',
      `\`${name}\` must be a whole number from 1 on, not ${value}.`,
    )
  }
  const engine = options.engine as unknown as Engine<App>
  const relay = new Relay({ engine, schema, table, report, batch, pollMs, keepMs })
  const work = keepWorking({
    name: `The PostgreSQL outbox "${schema}.${table}"`,
    connection,
    lock: `hence outbox ${schema}.${table}`,
    report,
    run: (client, signal) => relay.run(client, signal),
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

/** What a row gets. */
interface StoredOutcome {
  readonly number: string
  readonly outcome: string | null
  readonly token: string | null
  readonly error: string | null
}

type RelayOptions = Omit<Required<PostgresOutboxOptions<App>>, 'connection' | 'keepMs'> & {
  readonly keepMs: number | undefined
}

class Relay {
  readonly #options: RelayOptions
  readonly #name: string
  #told = ''

  constructor(options: RelayOptions) {
    this.#options = options
    this.#name = `${quoted(options.schema)}.${quoted(options.table)}`
  }

  async run(client: Client, signal: AbortSignal): Promise<void> {
    const { schema, table, pollMs, batch, keepMs } = this.#options
    await this.#makeTable(client)
    let wake = new AbortController()
    client.on('notification', () => wake.abort())
    signal.addEventListener('abort', () => wake.abort(), { once: true })
    await client.query(`LISTEN ${quoted(channelOf(schema, table))}`)
    let delayMs = delayMsMin
    let forgetAt = 0
    while (!signal.aborted) {
      wake = new AbortController()
      const rows = await this.#undecided(client)
      const { decided, again } = await this.#send(rows, signal)
      await this.#note(client, decided)
      if (keepMs !== undefined && Date.now() >= forgetAt) {
        forgetAt = Date.now() + forgetEveryMs
        await client.query(
          `DELETE FROM ${this.#name} WHERE outcome IS NOT NULL AND decided_at < now() - $1 * interval '1 ms'`,
          [keepMs],
        )
      }
      if (signal.aborted) return
      if (again) {
        await pause(delayMs * (0.5 + Math.random() / 2), signal)
        delayMs = Math.min(2 * delayMs, delayMsMax)
        continue
      }
      delayMs = delayMsMin
      if (rows.length < batch) await pause(pollMs, wake.signal)
    }
  }

  /** It is made only where it is missing, so that a relay need not own it. */
  async #makeTable(client: Client): Promise<void> {
    const { schema, table } = this.#options
    const { rowCount } = await client.query(
      'SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = $2',
      [schema, table],
    )
    if (rowCount !== 0) return
    await makeSchema(client, schema)
    await client.query(postgresOutboxSql({ schema, table }))
  }

  async #undecided(client: Client): Promise<WaitingRow[]> {
    const { rows } = await client.query(
      `SELECT number, id, type, input::text, principal FROM ${this.#name} WHERE decided_at IS NULL ORDER BY number LIMIT $1`,
      [this.#options.batch],
    )
    return rows
  }

  /** @returns what was decided, and whether some have to be sent again */
  async #send(
    rows: readonly WaitingRow[],
    signal: AbortSignal,
  ): Promise<{ decided: StoredOutcome[]; again: boolean }> {
    const decided: StoredOutcome[] = []
    let again = false
    const sent = rows.map(async (row) => {
      const { number, id, type, input, principal } = row
      try {
        if (isSystemMessage(type)) throw notOfTheApp(type)
        const reply = await this.#options.engine.submit(type, parseStrict(input) as never, {
          requestId: id,
          principal,
        })
        const { requestId: _, token, replayed: __, ...outcome } = reply
        decided.push({ number, outcome: JSON.stringify(outcome), token, error: null })
        this.#told = ''
      } catch (error) {
        if (error instanceof HenceError && error.advice === 'change') {
          const { code, message } = error
          decided.push({ number, outcome: null, token: null, error: JSON.stringify({ code, message }) })
          this.#report(
            'alarm',
            'postgres-outbox-refused',
            `Request ${id} (${type}) can never be taken: ${message}`,
          )
        } else {
          again = true
          if (!signal.aborted) this.#heldUp(error)
        }
      }
    })
    // What is under way when it is told to stop is decided by the engine all the same, and noted by the next relay.
    await Promise.race([Promise.all(sent), whenAborted(signal)])
    return { decided: [...decided], again }
  }

  async #note(client: Client, decided: readonly StoredOutcome[]): Promise<void> {
    if (decided.length === 0) return
    const column = (name: keyof StoredOutcome) => decided.map((each) => each[name])
    await client.query(
      `UPDATE ${this.#name} AS row SET decided_at = now(), outcome = new.outcome, token = new.token, error = new.error
        FROM unnest($1::bigint[], $2::json[], $3::text[], $4::json[]) AS new (number, outcome, token, error)
        WHERE row.number = new.number`,
      [column('number'), column('outcome'), column('token'), column('error')],
    )
  }

  /** An outage is one report, however many requests wait for its end. */
  #heldUp(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    if (message === this.#told) return
    this.#told = message
    this.#report(
      'warning',
      'postgres-held-up',
      `Requests wait in their table, and are sent again: ${message}`,
    )
  }

  #report(level: 'warning' | 'alarm', code: string, message: string): void {
    const { schema, table } = this.#options
    this.#options.report({ level, code, message: `The PostgreSQL outbox "${schema}.${table}": ${message}` })
  }
}

/** What only operators may ask is not asked by whoever may insert. */
function notOfTheApp(type: string): HenceError {
  return new HenceError('unknown-request', 'change', `The app defines no request "${type}".`)
}

/** The name of a channel has at most 63 bytes. */
function channelOf(schema: string, table: string): string {
  return Buffer.from(`${schema}.${table}`).subarray(0, 63).toString()
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
