/** What is asked of whom others wait for. */
export interface Foreground {
  /** Whether somebody waits for what the live generation does. */
  isBusy(): boolean
  /** Resolves when the live generation has applied another record; rejects when it will not any more. */
  next(): Promise<void>
  /** For how long work in the background goes on at a time at most, in milliseconds: what others may have to wait for. */
  readonly sliceMsMax: number
}

const sliceMsMin = 0.25

/**
 * Gives work in the background its share of the time of the event loop: a slice, and then a rest. While somebody waits for live
 * work, a rest is measured by the slice before it, whatever that took, and the next slice by what the rest really took, since
 * timers come late when there is much to do. With a share of a half, background work of the same kind as the live one keeps
 * up with it, and the live one takes twice as long at most. While nobody waits, it rests for one turn of the event loop.
 */
export class Pace {
  /** How much of the time it takes, over 0 to 1. */
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

  /** Begins a slice. */
  begin(): void {
    this.#isHurried = false
    this.#begun = performance.now()
  }

  /** Undefined as long as the work may go on; otherwise it may when this resolves, which begins the next slice. */
  rest(): Promise<void> | undefined {
    return performance.now() - this.#begun < this.#sliceMs ? undefined : this.#rest()
  }

  /** Waits a while at all events; `hurry` ends it. */
  sleep(ms: number): Promise<void> {
    if (this.#isHurried) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        this.#wake = undefined
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#wake = done
    })
  }

  /** Ends the rest that is under way, and lets none begin before the next `begin`. */
  hurry(): void {
    this.#isHurried = true
    this.#wake?.()
  }

  async #rest(): Promise<void> {
    const stopped = performance.now()
    const ratio = 1 / this.share - 1
    const until = stopped + (stopped - this.#begun) * ratio
    do await this.#turn(until)
    while (performance.now() < until && this.#foreground.isBusy() && !this.#isHurried)
    const restedMs = performance.now() - stopped
    const { sliceMsMax } = this.#foreground
    this.#sliceMs = Math.min(Math.max(ratio > 0 ? restedMs / ratio : sliceMsMax, sliceMsMin), sliceMsMax)
    this.#begun = performance.now()
  }

  /** Lets the live generation go on: until it has applied something, if it has anything to do. */
  async #turn(until: number): Promise<void> {
    if (this.#foreground.isBusy()) {
      const next = this.#foreground.next()
      next.catch(() => {})
      await Promise.race([next.catch(() => {}), this.sleep(Math.max(1, until - performance.now()))])
      this.#wake?.()
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}
