import { changeError } from '../failure.ts'
import { type Identity, requestIdOf, timeOf } from '../identity.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { Watermark } from '../log/record.ts'

/** How old an id may be, and how far a client's clock may be ahead. */
export const windowMsDefault = 30 * 24 * 60 * 60 * 1000
const aheadMsMax = 5 * 60 * 1000
/** Outcomes are kept a little longer than the window, so that none is pruned while its id may still arrive. */
const keptMsBeyondWindow = 10 * 60 * 1000
/** The watermark moves this often at most, or each hundredth of a shorter window. */
const stepMsMax = 60 * 60 * 1000

/** A clock that does not follow jumps. */
interface IdClock {
  now(): number
  elapsed(): number
  /** The latest time that it may be, if clocks have been wrong. */
  latest(): number
}

/** How far the log of an earlier process got: its watermarks, and where its log time ended. */
interface Begun {
  readonly history: readonly ControlFact[]
  readonly watermarks: { readonly last: readonly (Watermark & { readonly at: number })[] }
  timeOf(partition: number): number
}

/**
 * Which ids are taken, and how far they are forgotten. Its time advances no faster than the monotonic clock,
 * so no jump of the clock makes it forget, or refuse, an id of today. It stands still while no process runs.
 */
export class IdWindow {
  readonly #clock: IdClock
  readonly #windowMs: number
  readonly #stepMs: number
  /** The time at the start, and the monotonic clock then. */
  #begun = { time: 0, at: 0 }
  /** The latest time that no jump of the clock has brought, as of the last check. */
  #latest = 0
  /** The time of the last watermark. */
  #moved = 0

  constructor(clock: IdClock, windowMs: number) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#stepMs = Math.min(stepMsMax, windowMs / 100)
  }

  /** Goes on from what the log says; with a confirmed clock nothing since then was a jump. */
  begin(log: Begun, isConfirmed: boolean): void {
    const first = log.history[0]?.at ?? this.#clock.now()
    let time = 0
    for (const [partition, last] of log.watermarks.last.entries()) {
      const from = last.at === 0 ? first : last.time
      const since = log.timeOf(partition) - (last.at === 0 ? first : last.at)
      this.#moved = Math.max(this.#moved, from)
      // The process that wrote it went on for a while; later records may follow a jump.
      time = Math.max(time, from + Math.max(0, Math.min(since, this.#stepMs)))
    }
    if (isConfirmed) time = Math.max(time, this.#clock.now())
    time = Math.max(time, this.#latest)
    this.#begun = { time, at: this.#clock.elapsed() }
    this.#latest = time
  }

  /**
   * Refuses an id that is forgotten or soon will be, and one from a clock that is too far ahead, since its
   * outcome would be kept too long.
   * @param forgotten ids from before this are forgotten
   */
  check(identity: Identity, forgotten: number): void {
    const now = this.#clock.now()
    const { time, at } = this.#begun
    const reached = Math.min(now, time + this.#clock.elapsed() - at)
    this.#latest = Math.max(this.#latest, Math.trunc(reached))
    const made = timeOf(identity)
    if (made === undefined) return
    if (made < forgotten || made < this.#latest - this.#windowMs) throw expired(identity)
    // The latest time is no earlier than now; to ask for it costs more.
    if (made > now + aheadMsMax && made > this.#clock.latest() + aheadMsMax) {
      throw changeError(
        'request-id-from-the-future',
        `The request id ${requestIdOf(identity)} is from ${new Date(made).toISOString()}, more than ` +
          `${aheadMsMax / 60_000} minutes ahead of the server's clock. Correct the client's clock and send a new request.`,
      )
    }
  }

  /** Returns the watermark to write, if the time of the last check is far enough from the one before. */
  due(): Watermark | undefined {
    const time = this.#latest
    if (time - this.#moved < this.#stepMs) return undefined
    this.#moved = time
    return { before: Math.max(0, time - this.#windowMs - keptMsBeyondWindow), time }
  }
}

/** The refusal of an id that is older than outcomes are kept. */
export const expired = (identity: Identity) =>
  changeError(
    'request-id-expired',
    `The request id ${requestIdOf(identity)} is from ${new Date(timeOf(identity)!).toISOString()}, longer ago ` +
      'than outcomes are kept, so it is unknown whether it was decided. Check the data, and send a new ' +
      'request if it is still wanted.',
  )
