import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type DatabaseSyncOptions } from 'node:sqlite'
import { type HenceError, operatorError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { closeToOthers } from './permissions.ts'

const sqliteBusy = 5
/** How long taking a lock waits for a concurrent `isHeld`, which takes microseconds. */
const checkMsMax = 100

/**
 * Takes a lock file, and makes it if it is missing. SQLite takes a lock of the operating system on it, so the
 * lock ends with the process however that ends: a killed one blocks nobody.
 * @param again another try follows anyway, so this one need not wait for a concurrent `isHeld`
 * @returns undefined if another process, or another part of this one, holds the lock
 */
export function holdFile(path: string, again = false): { release(): void } | undefined {
  const database = open(path, { timeout: again ? 0 : checkMsMax })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    // Of a file that it can only read, SQLite takes a shared lock without a word. It refuses a write, and
    // this one stays in memory.
    database.exec('PRAGMA user_version = 1')
    closeToOthers(path)
  } catch (error) {
    database.close()
    if (!isBusy(error)) throw unusable(path, error)
    return undefined
  }
  return { release: () => database.close() }
}

/** Whether a lock file is held. Makes no file, and keeps nobody from taking the lock. */
export function isHeld(path: string): boolean {
  try {
    // Without such a file nobody has ever held it. One that cannot be opened may be held.
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return false
  } catch (error) {
    throw fileFailure(error) ?? error
  }
  const database = open(path, { readOnly: true })
  try {
    // Reading takes a shared lock, which the exclusive lock of a holder refuses.
    database.exec('SELECT count(*) FROM sqlite_schema')
    return false
  } catch (error) {
    if (isBusy(error)) return true
    throw unusable(path, error)
  } finally {
    database.close()
  }
}

function open(path: string, options: DatabaseSyncOptions): DatabaseSync {
  try {
    return new DatabaseSync(path, options)
  } catch (error) {
    throw unusable(path, error)
  }
}

function unusable(path: string, cause: unknown): HenceError {
  try {
    // SQLite does not say why. Opening and closing the file would release a lock that this process has.
    accessSync(existsSync(path) ? path : dirname(path), constants.R_OK | constants.W_OK)
  } catch (error) {
    return fileFailure(error)!
  }
  return operatorError(
    'file-unusable',
    `${path} cannot be used: ${(cause as Error).message}. See that this process can read and write there. A ` +
      'lock that is damaged may be removed while no process has the directory open.',
    { cause },
  )
}

const isBusy = (error: unknown): boolean => (error as { errcode?: number }).errcode === sqliteBusy
