import { uptime } from 'node:os'
import { type Clock, setAlarm, systemClock } from '../clock.ts'
import { operatorError } from '../failure.ts'
import type { Reporter } from '../report.ts'

/** The clock may leave the monotonic one by so much in an hour, in milliseconds. */
const driftMsMax = 60_000
const hourMs = 60 * 60 * 1000

/**
 * The clock of a running engine: it follows the given one, except where that jumps. Log time is taken from it
 * too. A clock without `elapsed` is followed wherever it goes.
 */
export class SteadyClock {
  readonly #clock: Clock
  readonly #report: Reporter
  /** When the clock was last followed: its time, and those of two clocks that do not jump. */
  #base: { readonly time: number; readonly at: number; readonly up: number }
  #hasJumped = false
  #logTime = { time: 0, at: 0 }
  /** The last time in the log at the start, and the monotonic time then. */
  #begun = { last: 0, at: 0 }

  constructor(clock: Clock, report: Reporter) {
    this.#clock = clock
    this.#report = report
    this.#base = this.#follow(clock.now(), this.elapsed())
  }

  /**
   * A process begins to write to a log.
   * @param last the time of its last record; 0 if there is none
   * @param mostMs the clock may be so far beyond it without a confirmation
   * @param first the time of the next record, at the earliest
   */
  begin(last: number, mostMs: number, first = last): void {
    const { time } = this.#base
    if (last > 0 && time - last > mostMs) throw unconfirmed(last, time)
    this.#begun = { last, at: this.elapsed() }
    this.#logTime = { time: first, at: this.#clock.elapsed?.() ?? 0 }
    if (last - time > driftMsMax)
      this.#report({ level: 'alarm', code: 'log-time-ahead', message: ahead(last, time) })
  }

  /** The given clock is right: it is followed from here on. */
  confirm(): void {
    this.#base = this.#follow(this.#clock.now(), this.elapsed())
    this.#hasJumped = false
  }

  now(): number {
    const given = this.#clock.now()
    const elapsed = this.elapsed()
    const { time, at, up } = this.#base
    const expected = time + elapsed - at
    const isNear = (other: number) => Math.abs(given - other) <= driftMsMax
    if (!isNear(expected)) {
      // If the clock comes back to the time of the log, it is right.
      const isBack = given > expected && given <= this.#logTime.time + driftMsMax
      if (!isBack && !isNear(time + this.#uptime(elapsed) - up)) {
        if (!this.#hasJumped)
          this.#report({ level: 'alarm', code: 'clock-jumped', message: jumped(given, expected) })
        this.#hasJumped = true
        return expected
      }
      this.#base = this.#follow(given, elapsed)
    } else if (elapsed - at > hourMs) this.#base = this.#follow(given, elapsed)
    if (this.#hasJumped)
      this.#report({
        level: 'info',
        code: 'clock-followed',
        message: `The clock is followed again: ${iso(given)}.`,
      })
    this.#hasJumped = false
    return given
  }

  /**
   * The time of a record that is written now; it never goes back. While the log is ahead of the clock, it
   * advances by half, so that timers go off and the clock catches up.
   */
  logTime(): number {
    const now = this.now()
    const at = this.#clock.elapsed?.() ?? 0
    const { time, at: before } = this.#logTime
    this.#logTime = { time: Math.max(now, time + (at - before) / 2), at }
    return Math.trunc(this.#logTime.time)
  }

  /** The latest time that it may be: by the clock, followed or not, or by the log and the time since the start. */
  latest(): number {
    const { last, at } = this.#begun
    return Math.max(this.#clock.now(), this.now(), last + this.elapsed() - at)
  }

  elapsed(): number {
    return this.#clock.elapsed?.() ?? this.#clock.now()
  }

  /** Calls back when log time reaches a time, or earlier. */
  alarm(time: number, ring: () => void): () => void {
    return setAlarm(this.#clock, this.#clock.now() + time - this.logTime(), ring)
  }

  #follow(time: number, at: number) {
    return { time, at, up: this.#uptime(at) }
  }

  /** As the monotonic clock, which stands still while a machine sleeps; but this one goes on. */
  #uptime(elapsed: number): number {
    return this.#clock === systemClock ? uptime() * 1000 : elapsed
  }
}

const iso = (time: number) => new Date(time).toISOString()

function jumped(given: number, expected: number): string {
  return (
    `The clock says ${iso(given)}, and by the time that has passed it is ${iso(expected)}. The clock is not ` +
    'followed until it is right again. If it is right now, confirm it: start the engine again, or call `confirmClock()`.'
  )
}

function ahead(last: number, now: number): string {
  return (
    `The last record of the log is from ${iso(last)}, and the clock says ${iso(now)}. Nothing is lost: ids are ` +
    'judged by the clock, and log time advances at half its pace until the clock has caught up, so timers go off late. ' +
    'If the clock is wrong, set it right and start again.'
  )
}

const unconfirmed = (last: number, now: number) =>
  operatorError(
    'clock-unconfirmed',
    `The clock says ${iso(now)}, and the last record of the log is from ${iso(last)}, longer ago than ids are ` +
      'kept. Nothing was written. If the clock is wrong, set it right. If the log has stood still so long, ' +
      'start with `--confirm-clock` (in code: `confirmClock: true`).',
  )
