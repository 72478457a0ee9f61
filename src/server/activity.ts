import { assert } from '../assert.ts'
import { orAfter } from '../clock.ts'

/** Counts requests under way, so that a closing server can wait for them. */
export class Activity {
  #count = 0
  readonly #waiting: (() => void)[] = []

  begin(): void {
    this.#count++
  }

  end(): void {
    this.#count--
    assert(this.#count >= 0, 'a request ends once', this.#count)
    if (this.#count > 0) return
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** Resolves when nothing is under way, or after `ms`; true if nothing is. */
  async idle(ms: number): Promise<boolean> {
    if (this.#count === 0) return true
    await orAfter(new Promise<void>((resolve) => this.#waiting.push(resolve)), ms)
    return this.#count === 0
  }
}
