import { readFile, stat } from 'node:fs/promises'
import { changeError } from '../failure.ts'
import { ifThere, reasonText } from '../file-failure.ts'

/** Reads a text file; undefined when there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw fileUnreadable(path, error)
  }
}

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fileUnreadable(path, error)
  }
}

/** @throws HenceError `file-unusable` (operator) where that cannot be known */
export async function fileExists(path: string): Promise<boolean> {
  return (await ifThere(stat(path))) !== undefined
}

export const fileUnreadable = (path: string, cause: unknown) =>
  changeError('file-unreadable', `The file ${path} cannot be read: ${reasonText(cause)}`, { cause })
