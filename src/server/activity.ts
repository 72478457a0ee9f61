import { assert } from '../assert.ts'

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
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([late, new Promise<void>((resolve) => this.#waiting.push(resolve))])
    clearTimeout(timer)
    return this.#count === 0
  }
}
