import { readFile, stat } from 'node:fs/promises'
import { changeError } from '../failure.ts'

/**
 * Reads a text file; undefined when there is none.
 * @throws HenceError `file-unreadable` (change) for a file that exists and cannot be read
 */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw fileUnreadable(path, error)
  }
}

/**
 * Reads a text file.
 * @throws HenceError `file-unreadable` (change)
 */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fileUnreadable(path, error)
  }
}

export function fileExists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

export const fileUnreadable = (path: string, cause: unknown) =>
  changeError(
    'file-unreadable',
    `The file ${path} cannot be read: ${(cause as Error).message}. Give a file that exists and that you may read.`,
    { cause },
  )
