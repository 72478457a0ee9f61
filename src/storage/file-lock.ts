import { DatabaseSync } from 'node:sqlite'
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
  const database = new DatabaseSync(path, { timeout: again ? 0 : checkMsMax })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    closeToOthers(path)
  } catch (error) {
    database.close()
    if (!isBusy(error)) throw error
    return undefined
  }
  return { release: () => database.close() }
}

/** Whether a lock file is held. Makes no file, and keeps nobody from taking the lock. */
export function isHeld(path: string): boolean {
  let database: DatabaseSync
  try {
    database = new DatabaseSync(path, { readOnly: true })
  } catch {
    // There is no such file, so nobody has ever held it.
    return false
  }
  try {
    // Reading takes a shared lock, which the exclusive lock of a holder refuses.
    database.exec('SELECT count(*) FROM sqlite_schema')
    return false
  } catch (error) {
    if (isBusy(error)) return true
    throw error
  } finally {
    database.close()
  }
}

const isBusy = (error: unknown): boolean => (error as { errcode?: number }).errcode === sqliteBusy
