import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HenceError } from '../../failure.ts'

/**
 * Makes this process the only one that has the directory open. The lock is one of the operating system on
 * the file `lock`, by way of SQLite, so it ends with the process however that ends: a killed one blocks nobody.
 * `lock.json` beside it only tells who the holder is.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(directory: string): Promise<{ release(): Promise<void> }> {
  const holder = join(directory, 'lock.json')
  const database = new DatabaseSync(join(directory, 'lock'))
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if ((error as { errcode?: number }).errcode !== sqliteBusy) throw error
    throw inUse(directory, await readFile(holder, 'utf8').catch(() => undefined))
  }
  await writeFile(
    holder,
    JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }),
  )
  return {
    async release() {
      database.close()
    },
  }
}

const sqliteBusy = 5

function inUse(directory: string, holder: string | undefined): HenceError {
  return new HenceError(
    'data-in-use',
    'retry',
    `${directory} is in use by another process${holder === undefined ? '' : ` (${holder})`}. ` +
      'Stop that process first, or give another directory.',
  )
}
