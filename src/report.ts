import { plain } from './plain-text.ts'

/** An event that an operator may want to know about. */
export interface Report {
  /** `info`: all is well; `warning`: it was mended, or will be; `alarm`: somebody must look. */
  readonly level: 'info' | 'warning' | 'alarm'
  /** A stable word for programs to match on. */
  readonly code: string
  /** One line. Characters of others that would take effect on a terminal are written as `\\u…`. */
  readonly message: string
}

export type Reporter = (report: Report) => void

/** Prints warnings and alarms to standard error, a line each. */
export const printReport: Reporter = ({ level, code, message }) => {
  if (level !== 'info') console.error(`hence: ${level}: ${code}: ${plain(message)}`)
}

/**
 * The reporter that a host has given, or `printReport`. Messages may repeat texts of others, and hosts write
 * them to logs.
 */
export function reporterOf(given: Reporter = printReport): Reporter {
  return (report) => given({ ...report, message: plain(report.message) })
}
