import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { HenceError } from '../failure.ts'

/**
 * Reads a file that the command line names; `-` is standard input.
 * @throws HenceError `file-unreadable` (change)
 */
export async function readInput(path: string): Promise<string> {
  if (path === '-') return text(process.stdin)
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw unreadableFile(path, error)
  }
}

export function unreadableFile(path: string, cause: unknown): HenceError {
  return new HenceError(
    'file-unreadable',
    'change',
    `The file ${path} cannot be read: ${(cause as Error).message}. Give one that is there and may be read.`,
    { cause },
  )
}
