import { pause, systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { ReprocessStatus } from './reprocessing.ts'

const pollMsMax = 200

/** Polls and reports the status while the candidate derives, until an abort; returns the last one. */
export async function catchUp(
  statusNow: () => Promise<ReprocessStatus | undefined>,
  signal: AbortSignal,
  report: (status: ReprocessStatus) => void,
): Promise<ReprocessStatus | undefined> {
  for (let waitMs = 20; ; waitMs = Math.min(2 * waitMs, pollMsMax)) {
    const status = await statusNow()
    if (status !== undefined) report(status)
    if (status?.state !== 'deriving' || signal.aborted) return status
    await pause(systemClock, waitMs, signal)
  }
}

export function failureOf({ error }: ReprocessStatus): HenceError {
  return new HenceError(
    error?.code ?? 'unexpected-error',
    'operator',
    `The candidate cannot continue: ${error?.message ?? 'the reason is not known.'}`,
  )
}
