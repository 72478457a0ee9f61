import { HenceError } from '../failure.ts'
import { type Identity, requestIdOf, timeOf } from '../identity.ts'

/** How long after its making an id is taken, and how far the clock of a client may be ahead. */
export const windowMsDefault = 30 * 24 * 60 * 60 * 1000
export const aheadMsMax = 5 * 60 * 1000
/** Outcomes are kept a little longer than their ids are taken, so that none is forgotten while it still counts. */
export const keptMsBeyondWindow = 10 * 60 * 1000

/**
 * Refuses an id that is too old to be told from a new one, and one from a clock that is far ahead, whose
 * outcome would be kept for longer than it should. Ids without a time in them pass.
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
      `The request id ${requestIdOf(identity)} was made ${new Date(made).toISOString()}, longer ago than outcomes are kept. ` +
        'Whether it was decided cannot be told any more: look at the data, and send a new request if it is still wanted.',
    )
  }
  if (made > now + aheadMsMax) {
    throw new HenceError(
      'request-id-from-the-future',
      'change',
      `The request id ${requestIdOf(identity)} says it is made ${new Date(made).toISOString()}, more than ` +
        `${aheadMsMax / 60_000} minutes ahead of the log's clock. Set the clock of the client right and send a new request.`,
    )
  }
}
