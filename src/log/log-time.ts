import type { Clock } from '../clock.ts'

/** Log time, in milliseconds since 1970: one for all partitions of a log; it never goes backwards. */
export class LogTime {
  #last = 0
  #clock: Pick<Clock, 'now'>

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  get last(): number {
    return this.#last
  }

  /** From here on times are those of another clock. */
  follow(clock: Pick<Clock, 'now'>): void {
    this.#clock = clock
  }

  /** Takes a time that is already in the log; no later stamp is earlier than that. */
  atLeast(time: number): void {
    if (time > this.#last) this.#last = time
  }

  now(): number {
    this.atLeast(Math.trunc(this.#clock.now()))
    return this.#last
  }
}
