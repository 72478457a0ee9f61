import { HenceError } from '../../failure.ts'

/** Where damage stands; the cause of a `log-damaged` error. */
export interface DamageLocation {
  readonly file: string
  readonly byte: number
}

/** Damage that is not the torn end of an unfinished write: refused, never mended or skipped. */
export function damaged(file: string, byte: number, what: string): HenceError {
  return new HenceError(
    'log-damaged',
    'operator',
    `The log is damaged in ${file} at byte ${byte}: ${what}. Nothing was changed. ` +
      'Restore the file from a copy of the data directory, then start again; `hence doctor` tells what is left.',
    { cause: { file, byte } satisfies DamageLocation },
  )
}

/** The place of damage that an error tells of; undefined for other errors. */
export function damageLocation(error: unknown): DamageLocation | undefined {
  if (!(error instanceof HenceError) || error.code !== 'log-damaged') return undefined
  return error.cause as DamageLocation | undefined
}
