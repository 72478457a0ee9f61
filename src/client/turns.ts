/** How many calls are asked at once: more would cost connections, of which a server has so many. */
const askedMax = 512

/** Lets so many calls through at once; the others wait for their turn. */
export class Turns {
  #running = 0
  readonly #waiting = new Set<() => void>()

  /** Resolves when the call may be asked; `ended` is called after it. */
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
      if (this.#running >= askedMax) return
      this.#running++
      this.#waiting.delete(resolve)
      resolve()
    }
  }
}
