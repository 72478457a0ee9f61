import type { Clock } from './clock.ts'
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

/** The reporter of the host, or `printReport`. Messages may repeat texts of others, and end up in logs. */
export function reporterOf(given: Reporter = printReport): Reporter {
  return (report) => given({ ...report, message: plain(report.message) })
}

/** The last alarm of a code. */
export interface Alarm extends Pick<Report, 'code' | 'message'> {
  /** When it was raised, in milliseconds since 1970; and how many of its code there were since the start. */
  readonly at: number
  readonly count: number
}

const alarmLength = 1_000

/** Keeps the last alarm of each code: codes are few, and one that repeats displaces no other. */
export class Alarms {
  readonly #byCode = new Map<string, Alarm>()

  /** A reporter that also keeps alarms. */
  keeping(report: Reporter, clock: Clock): Reporter {
    return (given) => {
      const { level, code, message } = given
      if (level === 'alarm') {
        const count = (this.#byCode.get(code)?.count ?? 0) + 1
        this.#byCode.set(code, { at: clock.now(), code, message: message.slice(0, alarmLength), count })
      }
      report(given)
    }
  }

  get last(): readonly Alarm[] {
    return [...this.#byCode.values()]
  }
}
