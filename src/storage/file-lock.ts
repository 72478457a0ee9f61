import { DatabaseSync } from 'node:sqlite'

const sqliteBusy = 5
/** How long a holding waits for whoever only looks (`isHeld`), which takes microseconds. */
const lookMsMax = 100

/**
 * Makes this process the only one that holds a lock file, which is made when it is missing. The lock is one of the
 * operating system, by way of SQLite, so it ends with the process however that ends: a killed one blocks nobody.
 * @param again another try follows anyway, so this one need not wait for those who only look
 * @returns undefined when another process, or another part of this one, holds it
 */
export function holdFile(path: string, again = false): { release(): void } | undefined {
  const database = new DatabaseSync(path, { timeout: again ? 0 : lookMsMax })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (!isBusy(error)) throw error
    return undefined
  }
  return { release: () => database.close() }
}

/** Whether somebody holds a lock file; it makes none, and keeps nobody from holding it. */
export function isHeld(path: string): boolean {
  let database: DatabaseSync
  try {
    database = new DatabaseSync(path, { readOnly: true })
  } catch {
    // There is no such file, so nobody ever held it.
    return false
  }
  try {
    // Reading takes a shared lock, which the holder's exclusive one keeps out.
    database.exec('SELECT count(*) FROM sqlite_schema')
    return false
  } catch (error) {
    if (isBusy(error)) return true
    throw error
  } finally {
    database.close()
  }
}

function isBusy(error: unknown): boolean {
  return (error as { errcode?: number }).errcode === sqliteBusy
}
