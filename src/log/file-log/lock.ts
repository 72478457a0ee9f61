import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from '../../failure.ts'
import { printReport, type Reporter } from '../../report.ts'

export interface LockOptions {
  /** Wait until the process that has the directory releases it, instead of an error. Default false. */
  readonly wait?: boolean | undefined
  /** Ends the waiting: the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined
  readonly report?: Reporter | undefined
}

/** The process that has a directory open, as it wrote it down. */
export interface Holder {
  readonly pid: number
  readonly host: string
  /** When it took the directory: ISO 8601. */
  readonly since: string
}

/**
 * Makes this process the only one that has the directory open. The lock is one of the operating system on
 * the file `lock`, by way of SQLite, so it ends with the process however that ends: a killed one blocks nobody.
 * `lock.json` beside it only tells who the holder is.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(
  directory: string,
  { wait = false, signal, report = printReport }: LockOptions = {},
): Promise<{ release(): Promise<void> }> {
  let told = false
  // The holder needs some time at least, and whoever waits for the hand-over should not wait much longer.
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    signal?.throwIfAborted()
    const database = tryLock(join(directory, 'lock'), wait ? 0 : lookMsMax)
    if (database) {
      await writeFile(
        join(directory, 'lock.json'),
        JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }),
      )
      return {
        async release() {
          database.close()
        },
      }
    }
    if (!wait)
      throw inUse(directory, await readFile(join(directory, 'lock.json'), 'utf8').catch(() => undefined))
    if (!told) {
      const holder = await readHolder(directory)
      report({
        level: 'info',
        code: 'waiting-for-data',
        message: `${directory} is in use${holder ? `: waiting for pid ${holder.pid}` : ': waiting'}.`,
      })
      told = true
    }
    await pause(pauseMs, undefined, { signal }).catch(() => {})
  }
}

/**
 * Who has the directory open right now; undefined when nobody has. It changes nothing, and a process that opens
 * the directory at this very moment is let in all the same.
 */
export async function holderOf(directory: string): Promise<Holder | 'unknown' | undefined> {
  let database: DatabaseSync
  try {
    database = new DatabaseSync(join(directory, 'lock'), { readOnly: true })
  } catch {
    // There is no lock file, so nobody ever opened the directory.
    return undefined
  }
  try {
    // Reading takes a shared lock, which the holder's exclusive one keeps out.
    database.exec('SELECT count(*) FROM sqlite_schema')
    return undefined
  } catch (error) {
    if (!isBusy(error)) throw error
    return (await readHolder(directory)) ?? 'unknown'
  } finally {
    database.close()
  }
}

const sqliteBusy = 5
const pauseMsMax = 50
/** How long an opening waits for whoever only looks who the holder is (`holderOf`), which takes microseconds. */
const lookMsMax = 100

function tryLock(path: string, timeout: number): DatabaseSync | undefined {
  const database = new DatabaseSync(path, { timeout })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    return database
  } catch (error) {
    database.close()
    if (isBusy(error)) return undefined
    throw error
  }
}

function isBusy(error: unknown): boolean {
  return (error as { errcode?: number }).errcode === sqliteBusy
}

async function readHolder(directory: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, 'lock.json'), 'utf8'))
  } catch {
    // It is being written, or was never: the lock holds without it.
    return undefined
  }
}

function inUse(directory: string, holder: string | undefined): HenceError {
  return new HenceError(
    'data-in-use',
    'retry',
    `${directory} is in use by another process${holder === undefined ? '' : ` (${holder})`}. ` +
      'Stop that process first, wait for it (`wait`), or give another directory.',
  )
}
