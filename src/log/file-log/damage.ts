import { HenceError } from '../../failure.ts'

/** Damage that is not the torn end of an unfinished write: refused, never mended or skipped. */
export function damaged(file: string, byte: number, what: string): HenceError {
  return new HenceError(
    'log-damaged',
    'operator',
    `The log is damaged in ${file} at byte ${byte}: ${what}. Nothing was changed. ` +
      'Restore the file from a copy of the data directory, then start again.',
  )
}
