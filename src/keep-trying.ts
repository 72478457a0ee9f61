import { type Clock, pause, systemClock } from './clock.ts'
import { thrownText } from './failure.ts'
import type { Report, Reporter } from './report.ts'

const delayMsMin = 100
const delayMsMax = 30_000

/**
 * Runs something until it returns or the signal aborts. A failure is reported, once for a long outage, and it
 * runs again after a pause, which grows until it calls `working`.
 */
export async function keepTrying(work: {
  /** The subject of a sentence in a report, for example `The PostgreSQL sink "shop"`. */
  readonly name: string
  /** The code of a report. */
  readonly code: Report['code']
  readonly report: Reporter
  readonly signal: AbortSignal
  readonly clock?: Clock
  run(working: () => void): Promise<void>
}): Promise<void> {
  const { name, code, report, signal, clock = systemClock } = work
  let delayMs = delayMsMin
  let reported = ''
  while (!signal.aborted) {
    try {
      await work.run(() => {
        delayMs = delayMsMin
      })
      return
    } catch (error) {
      if (signal.aborted) return
      const message = thrownText(error)
      if (message !== reported) {
        reported = message
        report({ level: 'warning', code, message: `${name} is interrupted and tries again: ${message}` })
      }
      await pause(clock, delayMs * (0.5 + Math.random() / 2), signal)
      delayMs = Math.min(2 * delayMs, delayMsMax)
    }
  }
}
