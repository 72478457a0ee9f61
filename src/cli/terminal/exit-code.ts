import { HenceError } from '../../failure.ts'

/**
 * How the command ends; stable, for scripts to match on. Beside these, 130 and 143 are those of a process that a
 * second SIGINT or SIGTERM ended before it was done.
 */
export const exitCode = {
  ok: 0,
  /** It could not be done; trying the same again would not help. */
  failed: 1,
  /** The command line makes no sense. */
  usage: 2,
  /** The request was decided, and not accepted: its outcome is `rejected` or `failed`. */
  notAccepted: 3,
  /** What was asked for is not there. */
  nothingFound: 4,
  /** Nothing is decided, or it is not known: the same command may be tried again. */
  tryAgain: 5,
  /** Somebody must look: data is damaged, or the engine has stopped. */
  operator: 6,
  /** `check --fail-on differences`: the new code derives something differently. */
  differs: 7,
  /** `check`: the log holds what the new code cannot read. */
  unreadable: 8,
} as const

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof HenceError)) return exitCode.failed
  return { change: exitCode.failed, retry: exitCode.tryAgain, operator: exitCode.operator }[error.advice]
}
