import type { Client, ClientConfig } from 'pg'
import { quoted } from '../app/name.ts'
import { pause, systemClock } from '../clock.ts'
import { keepTrying } from '../keep-trying.ts'
import { requirePackage } from '../optional-package.ts'
import type { Reporter } from '../report.ts'

export type PostgresConnection = string | ClientConfig

/**
 * The options of a connection. `pg` takes the modes of TLS that are named for less to mean `verify-full`, and
 * prints a warning that a later version will not; here they go on to mean it.
 */
export function configOf(connection: PostgresConnection): ClientConfig {
  const config = typeof connection === 'string' ? { connectionString: connection } : connection
  const { connectionString: text } = config
  if (text === undefined || /[?&]uselibpqcompat=true/.test(text)) return config
  const mode = /(?<=[?&]sslmode=)(prefer|require|verify-ca)(?=&|$)/
  return { ...config, connectionString: text.replace(mode, 'verify-full') }
}

/** Work on a database that goes on until it is stopped. */
interface DatabaseWork {
  /** The subject of a sentence in a report, for example `The PostgreSQL sink "shop"`. */
  readonly name: string
  readonly connection: PostgresConnection
  /** The name of a lock that one process at a time can hold on that database. */
  readonly lock: string
  readonly report: Reporter
  /**
   * Called with a new connection that holds the lock. If it throws, it is called again later, with another
   * connection. It returns when the signal aborts, which also happens when the connection is lost, or when
   * there is nothing more to do.
   */
  run(client: Client, signal: AbortSignal): Promise<void>
}

const connectMsMax = 10_000
/** A database that takes longer for a statement counts as lost. */
const answerMsMax = 10 * 60_000
/** The time between attempts to get the lock while another process holds it. */
const lockMs = 500

/**
 * Keeps some work going: after any failure, for example of the connection, it is reported and begun again.
 *
 * The lock belongs to the session that does the work. So if the database drops the session, it rolls back the
 * open transaction before another process can get the lock.
 *
 * @returns `ended` resolves when there is nothing more to do, or the work was stopped
 */
export function keepWorking(work: DatabaseWork): { readonly ended: Promise<void>; stop(): Promise<void> } {
  requirePackage('pg', 'PostgreSQL needs')
  const stopping = new AbortController()
  const { name, report } = work
  const { signal } = stopping
  const ended = keepTrying({
    ...{ name, code: 'postgres-held-up', report, signal },
    run: (working) => once(work, signal, working),
  })
  return {
    ended,
    stop() {
      stopping.abort()
      return ended
    },
  }
}

async function once(work: DatabaseWork, signal: AbortSignal, working: () => void): Promise<void> {
  const { Client } = (await import('pg')).default
  const client = new Client({
    connectionTimeoutMillis: connectMsMax,
    query_timeout: answerMsMax,
    keepAlive: true,
    ...configOf(work.connection),
  })
  // A connection that breaks while it is idle emits an error; the lock is lost, too.
  const losing = new AbortController()
  client.on('error', (error) => losing.abort(error))
  const either = AbortSignal.any([signal, losing.signal])
  try {
    await client.connect()
    if (await takeLock(work, client, either)) {
      working()
      await work.run(client, either)
    }
    if (!signal.aborted) losing.signal.throwIfAborted()
  } finally {
    await client.end().catch(() => {})
  }
}

/** @returns false if the signal aborted first */
async function takeLock(
  { lock, name, report }: DatabaseWork,
  client: Client,
  signal: AbortSignal,
): Promise<boolean> {
  for (let tries = 1; !signal.aborted; tries++) {
    const { rows } = await client.query('SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS held', [
      lock,
    ])
    if (rows[0].held) return true
    // The lock of a process that was just killed is released within seconds.
    if (tries === 10) {
      const message = `${name} stands by: another process does its work. This one takes over when that one ends.`
      report({ level: 'info', code: 'postgres-standby', message })
    }
    await pause(systemClock, lockMs, signal)
  }
  return false
}

/** Runs statements in one transaction, which is rolled back if one of them fails. */
export async function inTransaction<T>(client: Client, act: () => Promise<T>): Promise<T> {
  await client.query('BEGIN')
  try {
    const done = await act()
    await client.query('COMMIT')
    return done
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

/** Creates a schema only if it is missing, so that the right to create one is needed only then. */
export async function makeSchema(client: Client, schema: string): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema])
  if (rowCount === 0) await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoted(schema)}`)
}
