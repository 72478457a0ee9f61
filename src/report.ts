/** An event that an operator may want to know about. */
export interface Report {
  /**
   * `info`: all is well; `warning`: it was mended, or will be; `alarm`: somebody must look.
   */
  readonly level: 'info' | 'warning' | 'alarm'
  /** A stable word for programs to match on. */
  readonly code: string
  readonly message: string
}

export type Reporter = (report: Report) => void

/** Prints warnings and alarms to standard error, a line each. */
export const printReport: Reporter = ({ level, code, message }) => {
  if (level !== 'info') console.error(`hence: ${level}: ${code}: ${message}`)
}
