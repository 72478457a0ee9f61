import { readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { changeError } from '../failure.ts'
import { ifThere } from '../file-failure.ts'

/** Checks that a directory is empty or does not exist, but for names that do not count. */
export async function checkEmpty(directory: string, ignored: readonly string[] = []): Promise<void> {
  const names = (await ifThere(readdir(directory))) ?? []
  const found = names.filter((name) => !ignored.includes(name))
  if (found.length === 0) return
  throw changeError(
    'folder-not-empty',
    `${resolve(directory)} is not empty (${found.slice(0, 3).join(', ')}${found.length > 3 ? ' …' : ''}), ` +
      'and nothing was written. Give an empty directory, or the name of a new one.',
  )
}
