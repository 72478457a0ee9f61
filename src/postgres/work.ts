import type { Client, ClientConfig } from 'pg'
import { pause } from '../clock.ts'
import { requirePackage } from '../optional-package.ts'
import type { Reporter } from '../report.ts'

export type Connection = string | ClientConfig

/** Something that is done on a database for as long as it is not stopped. */
export interface Work {
  /** For reports: "the sink "shop"". */
  readonly name: string
  readonly connection: Connection
  /** Names what only one process at a time may do on that database. */
  readonly lock: string
  readonly report: Reporter
  /**
   * Begins with a new connection that holds the lock, and may throw at any time: then it is called again, later, with
   * another one. It ends when the signal aborts, as it does when the connection is lost, or when there is nothing more
   * to do.
   */
  run(client: Client, signal: AbortSignal): Promise<void>
}

const connectMsMax = 10_000
/** A database that has not answered a statement by then is taken for gone. */
const answerMsMax = 10 * 60_000
const delayMsMin = 100
const delayMsMax = 30_000
/** How often another process is asked, by trying, whether it still holds the lock. */
const lockMs = 500

/**
 * Keeps some work going: whatever breaks, such as the connection or the database, is reported and begun anew.
 *
 * The lock is one of the session that does the work. So when the database takes this process for gone it undoes what the
 * session had not committed, before it lets another one in.
 *
 * @returns ended: it has nothing more to do, or was stopped
 * @throws HenceError `package-missing` (change)
 */
export function keepWorking(work: Work): { readonly ended: Promise<void>; stop(): Promise<void> } {
  requirePackage('pg', 'PostgreSQL needs')
  const stopping = new AbortController()
  const ended = goOn(work, stopping.signal)
  return {
    ended,
    stop() {
      stopping.abort()
      return ended
    },
  }
}

async function goOn(work: Work, signal: AbortSignal): Promise<void> {
  let delayMs = delayMsMin
  let told = ''
  while (!signal.aborted) {
    try {
      await once(work, signal, () => {
        delayMs = delayMsMin
      })
      return
    } catch (error) {
      if (signal.aborted) return
      const message = error instanceof Error ? error.message : String(error)
      // An outage of an hour is one report.
      if (message !== told) {
        told = message
        const text = `${work.name} is held up, and tries again: ${message}`
        work.report({ level: 'warning', code: 'postgres-held-up', message: text })
      }
      await pause(delayMs * (0.5 + Math.random() / 2), signal)
      delayMs = Math.min(2 * delayMs, delayMsMax)
    }
  }
}

async function once(work: Work, signal: AbortSignal, working: () => void): Promise<void> {
  const { Client } = (await import('pg')).default
  const { connection } = work
  const given = typeof connection === 'string' ? { connectionString: connection } : connection
  const client = new Client({
    connectionTimeoutMillis: connectMsMax,
    query_timeout: answerMsMax,
    keepAlive: true,
    ...given,
  })
  // A connection that breaks while nothing is asked of it is an event: then the lock is gone too.
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

/** @returns false when it was stopped before */
async function takeLock({ lock, name, report }: Work, client: Client, signal: AbortSignal): Promise<boolean> {
  for (let tries = 1; !signal.aborted; tries++) {
    const { rows } = await client.query('SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS held', [
      lock,
    ])
    if (rows[0].held) return true
    // One that was killed a moment ago is no news.
    if (tries === 10) {
      const message = `Another process does what ${name} does. This one waits, and takes over when that ends.`
      report({ level: 'info', code: 'postgres-standby', message })
    }
    await pause(lockMs, signal)
  }
  return false
}

/** Does something in one transaction. */
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

/** A name as SQL takes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A schema is made only where it is missing, so that nobody needs the right to make one who has one. */
export async function makeSchema(client: Client, schema: string): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema])
  if (rowCount === 0) await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoted(schema)}`)
}
