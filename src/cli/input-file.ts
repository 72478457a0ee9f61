import { text } from 'node:stream/consumers'
import { readText } from '../storage/text-file.ts'

/** Reads a file that the command line names; `-` is standard input. */
export function readInput(path: string): Promise<string> {
  return path === '-' ? text(process.stdin) : readText(path)
}
