/** Lets so many callers through at once; the others wait for their turn, in order. */
export class Turns {
  readonly #max: number
  #running = 0
  readonly #waiting = new Set<() => void>()

  constructor(max: number) {
    this.#max = max
  }

  /** Resolves when it is the caller's turn; `ended` is called after it. */
  take(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.add(resolve)
      this.#next()
    })
  }

  ended(): void {
    this.#running--
    this.#next()
  }

  #next(): void {
    for (const resolve of this.#waiting) {
      if (this.#running >= this.#max) return
      this.#running++
      this.#waiting.delete(resolve)
      resolve()
    }
  }
}
