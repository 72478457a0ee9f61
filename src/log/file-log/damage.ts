import { HenceError, operatorError } from '../../failure.ts'

/** Where the log is damaged; the cause of a `log-damaged` error. */
export interface DamageLocation {
  readonly file: string
  readonly byte: number
}

/** The error for damage other than the torn end of an unfinished write: it is never repaired or skipped. */
export const damaged = (file: string, byte: number, what: string) =>
  operatorError(
    'log-damaged',
    `The log is damaged in ${file} at byte ${byte}: ${what}. Nothing was changed. ` +
      'Restore the file from a copy of the data directory, then start again; `hence doctor` shows what is left.',
    { cause: { file, byte } satisfies DamageLocation },
  )

export function damageLocation(error: unknown): DamageLocation | undefined {
  if (!(error instanceof HenceError) || error.code !== 'log-damaged') return undefined
  return error.cause as DamageLocation | undefined
}
