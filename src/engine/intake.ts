import { assert } from '../assert.ts'
import { retryError } from '../failure.ts'

/** How many requests may wait while the intake is closed. */
const waitingMax = 100_000

/** Admits requests, or makes them wait while the engine is quiesced, for example for a promotion. */
export class Intake {
  #closed: PromiseWithResolvers<void> | undefined
  #waiting = 0

  /** Resolves when the intake opens; undefined while it is open. */
  get reopening(): Promise<void> | undefined {
    return this.#closed?.promise
  }

  /** Closes it; if it is closed already, waits until it was opened first. */
  async close(): Promise<void> {
    while (this.#closed) await this.#closed.promise
    this.#closed = Promise.withResolvers()
  }

  open(): void {
    assert(this.#closed !== undefined, 'only a closed intake is opened')
    this.#closed.resolve()
    this.#closed = undefined
  }

  /** Waits, as one of a limited number, until the intake is open. */
  async opened(): Promise<void> {
    while (this.#closed) {
      if (this.#waiting >= waitingMax)
        throw retryError(
          'overloaded',
          'Too many requests wait while another generation becomes live. Nothing was written: send the same ' +
            'request again a little later.',
        )
      this.#waiting++
      await this.#closed.promise
      this.#waiting--
    }
  }
}
