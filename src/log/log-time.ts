import type { Clock } from '../clock.ts'

/** Log time: one for all partitions of a log, and it never goes backwards. In milliseconds since 1970. */
export class LogTime {
  #last = 0
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Takes note of a time that stands in the log already; nothing is stamped earlier from now on. */
  atLeast(time: number): void {
    if (time > this.#last) this.#last = time
  }

  now(): number {
    this.atLeast(Math.trunc(this.#clock.now()))
    return this.#last
  }
}
