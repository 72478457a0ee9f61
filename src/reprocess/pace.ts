import { type Clock, elapsed, setTimer } from '../clock.ts'

/** The live work that background work makes room for. */
export interface Foreground {
  /** Whether anybody waits for the live generation. */
  isBusy(): boolean
  /** Resolves when the live generation has applied another record; rejects when it never will. */
  next(): Promise<void>
  /** The longest time slice of background work, in milliseconds: live work may have to wait for that long. */
  readonly sliceMsMax: number
  readonly clock: Clock
}

const sliceMsMin = 0.25

/**
 * Gives background work its share of the event loop's time: a slice of work, then a rest. While live work is
 * waited for, a rest is as long as the share asks for, given the time that the slice before it really took;
 * and the next slice is as long as the share allows, given the time that the rest really took, because timers
 * fire late under load. With a share of 0.5, background work of the same kind keeps up with live work, and
 * live work takes at most twice as long. While nobody waits, a rest is one turn of the event loop.
 */
export class Pace {
  /** The share of the time for background work, over 0 to 1. */
  share: number
  readonly #foreground: Foreground
  #begun = 0
  #sliceMs = sliceMsMin
  #wake: (() => void) | undefined
  #isHurried = false

  constructor(foreground: Foreground, share: number) {
    this.#foreground = foreground
    this.share = share
  }

  begin(): void {
    this.#isHurried = false
    this.#begun = this.#now()
  }

  /** Returns undefined while the slice lasts; then a promise that resolves when the next slice begins. */
  rest(): Promise<void> | undefined {
    return this.#now() - this.#begun < this.#sliceMs ? undefined : this.#rest()
  }

  /** Waits for a time, whether or not there is live work; `hurry` ends it. */
  sleep(ms: number): Promise<void> {
    if (this.#isHurried) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        this.#wake = undefined
        cancel()
        resolve()
      }
      const cancel = setTimer(this.#foreground.clock, ms, done)
      this.#wake = done
    })
  }

  /** Ends the present rest, and prevents another one before the next `begin`. */
  hurry(): void {
    this.#isHurried = true
    this.#wake?.()
  }

  #now(): number {
    return elapsed(this.#foreground.clock)
  }

  async #rest(): Promise<void> {
    const stopped = this.#now()
    const ratio = 1 / this.share - 1
    const until = stopped + (stopped - this.#begun) * ratio
    do await this.#turn(until)
    while (this.#now() < until && this.#foreground.isBusy() && !this.#isHurried)
    const restedMs = this.#now() - stopped
    const { sliceMsMax } = this.#foreground
    this.#sliceMs = Math.min(Math.max(ratio > 0 ? restedMs / ratio : sliceMsMax, sliceMsMin), sliceMsMax)
    this.#begun = this.#now()
  }

  /** Lets live work go on: until the live generation has applied a record, if it is busy. */
  async #turn(until: number): Promise<void> {
    if (this.#foreground.isBusy()) {
      const next = this.#foreground.next()
      next.catch(() => {})
      await Promise.race([next.catch(() => {}), this.sleep(Math.max(1, until - this.#now()))])
      this.#wake?.()
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}
