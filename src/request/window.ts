import { HenceError } from '../failure.ts'
import { type Identity, requestIdOf, timeOf } from '../identity.ts'

/** How old an id may be, and how far a client's clock may be ahead. */
export const windowMsDefault = 30 * 24 * 60 * 60 * 1000
const aheadMsMax = 5 * 60 * 1000
/** Outcomes are kept a little longer than the window, so that none is pruned while its id may still arrive. */
export const keptMsBeyondWindow = 10 * 60 * 1000

/**
 * Refuses an id older than the window, since its outcome may have been pruned, and one from a clock that is
 * too far ahead, since its outcome would be kept too long. Ids that contain no time pass.
 * @param now log time
 * @throws HenceError `request-id-expired`, `request-id-from-the-future` (change)
 */
export function checkWindow(identity: Identity, now: number, windowMs: number): void {
  const made = timeOf(identity)
  if (made === undefined) return
  if (made < now - windowMs) {
    throw new HenceError(
      'request-id-expired',
      'change',
      `The request id ${requestIdOf(identity)} is from ${new Date(made).toISOString()}, longer ago than ` +
        'outcomes are kept, so it is unknown whether it was decided. Check the data, and send a new ' +
        'request if it is still wanted.',
    )
  }
  if (made > now + aheadMsMax) {
    throw new HenceError(
      'request-id-from-the-future',
      'change',
      `The request id ${requestIdOf(identity)} is from ${new Date(made).toISOString()}, more than ` +
        `${aheadMsMax / 60_000} minutes ahead of the log's clock. Correct the client's clock and send a new request.`,
    )
  }
}
