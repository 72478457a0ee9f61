import { DatabaseSync } from 'node:sqlite'

const sqliteBusy = 5

/**
 * Makes this process the only one that holds a lock file, which is made when it is missing. The lock is one of the
 * operating system, by way of SQLite, so it ends with the process however that ends: a killed one blocks nobody.
 * @returns undefined when another process, or another part of this one, holds it
 */
export function holdFile(path: string): { release(): void } | undefined {
  const database = new DatabaseSync(path)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if ((error as { errcode?: number }).errcode !== sqliteBusy) throw error
    return undefined
  }
  return { release: () => database.close() }
}
