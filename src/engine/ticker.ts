import type { Timers } from '../derivation/timers.ts'
import type { SteadyClock } from './steady-clock.ts'

/** Lets timers go off on time without other records: it decides when to append a tick, and where. */
export class Ticker {
  readonly #clock: SteadyClock
  readonly #wake: () => void
  /** The time that the alarm is set to. */
  #alarmAt = Number.POSITIVE_INFINITY
  #cancelAlarm = () => {}
  /** Partitions whose tick has not been applied yet. */
  readonly #ticking = new Set<number>()

  /** @param wake called when a timer may be due */
  constructor(clock: SteadyClock, wake: () => void) {
    this.#clock = clock
    this.#wake = wake
  }

  /** Calls `wake` at a time, or earlier. */
  wakeAt(time: number): void {
    if (time >= this.#alarmAt) return
    this.#cancelAlarm()
    this.#alarmAt = time
    this.#cancelAlarm = this.#clock.alarm(time, () => {
      this.#alarmAt = Number.POSITIVE_INFINITY
      this.#wake()
    })
  }

  /** Returns the partitions that need a tick now; each counts as on its way until `applied`. */
  due(timers: Timers, partitions: number, now: number): number[] {
    const due: number[] = []
    for (let partition = 0; partition < partitions; partition++) {
      const next = timers.next(partition)
      if (next > now) this.wakeAt(next)
      else if (!this.#ticking.has(partition)) due.push(partition)
    }
    for (const partition of due) this.#ticking.add(partition)
    return due
  }

  /** The tick of a partition was applied, or is known not to be in the log. */
  applied(partition: number): void {
    this.#ticking.delete(partition)
  }

  stop(): void {
    this.#cancelAlarm()
    this.#alarmAt = Number.NEGATIVE_INFINITY
  }
}
