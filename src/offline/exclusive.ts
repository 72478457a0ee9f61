import { resolve } from 'node:path'
import { retryError } from '../failure.ts'
import { type DirectoryLock, lockDirectory, lockHolderOf, nameOf } from '../storage/directory-lock.ts'

/** Takes a data directory for work beside which no process may run; else nothing was `done`. */
export async function takeDirectory(data: string, done: string): Promise<DirectoryLock> {
  const holder = await lockHolderOf(data)
  if (holder === undefined) return lockDirectory(data)
  throw retryError(
    'data-in-use',
    `${resolve(data)} is in use by ${nameOf(holder)}, so nothing was ${done}. Stop that process first.`,
  )
}
