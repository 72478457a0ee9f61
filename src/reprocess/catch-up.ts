import { pause } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { ReprocessStatus } from './reprocessing.ts'

const everyMs = 200

/**
 * Waits until the other generation is no longer on its way, and tells how far it is meanwhile. Gives its last status;
 * undefined when there is none (any more).
 */
export async function catchUp(
  reach: { generations(): Promise<{ readonly other?: ReprocessStatus | undefined }> },
  signal: AbortSignal,
  heard: (status: ReprocessStatus) => void,
): Promise<ReprocessStatus | undefined> {
  for (let waitMs = 20; ; waitMs = Math.min(2 * waitMs, everyMs)) {
    const { other } = await reach.generations()
    if (other !== undefined) heard(other)
    if (other?.state !== 'deriving' || signal.aborted) return other
    await pause(waitMs, signal)
  }
}

/** The error that stopped a generation, as one of this process. */
export function failureOf({ error }: ReprocessStatus): HenceError {
  return new HenceError(
    error?.code ?? 'unexpected-error',
    'operator',
    `The other generation cannot go on: ${error?.message ?? 'nothing is known of why.'}`,
  )
}
