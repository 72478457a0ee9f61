import { readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { changeError } from '../failure.ts'

/**
 * Checks that a directory is empty or does not exist.
 * @param ignored names that do not count
 * @throws HenceError `folder-not-empty` (change)
 */
export async function checkEmpty(directory: string, ignored: readonly string[] = []): Promise<void> {
  const names: string[] = await readdir(directory).catch(() => [])
  const found = names.filter((name) => !ignored.includes(name))
  if (found.length === 0) return
  throw changeError(
    'folder-not-empty',
    `${resolve(directory)} is not empty (${found.slice(0, 3).join(', ')}${found.length > 3 ? ' …' : ''}), ` +
      'and nothing was written. Give an empty directory, or the name of a new one.',
  )
}
