import { HenceError } from '../../failure.ts'

/** The exit codes, which scripts can rely on. A second SIGINT or SIGTERM ends the process with 130 or 143. */
export const exitCode = {
  ok: 0,
  /** It failed, and would fail again. */
  failed: 1,
  usage: 2,
  /** The outcome of the request is `rejected` or `failed`. */
  notAccepted: 3,
  nothingFound: 4,
  /** Not decided, not known, or stopped: the same command may be run again. */
  tryAgain: 5,
  /** An operator must look: data is damaged, or the engine has stopped. */
  operator: 6,
  /** `check --fail-on differences`: the new code derives something differently. */
  differs: 7,
  /** `check`: the log holds requests that the new code cannot read. */
  unreadable: 8,
} as const

const notFound: ReadonlySet<string> = new Set([
  ...['request-not-found', 'effect-not-found', 'violation-not-found', 'head-not-found'],
])

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof HenceError)) return exitCode.failed
  if (notFound.has(error.code)) return exitCode.nothingFound
  return { change: exitCode.failed, retry: exitCode.tryAgain, operator: exitCode.operator }[error.advice]
}
