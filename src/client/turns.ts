/** How many calls are asked at once: more would cost connections, of which a server has so many. */
const askedMax = 512
/** The least time between two calls while no process is found active, in milliseconds. */
const probeMs = 20

/**
 * Lets calls through: up to a bound at once, soon one by one while they find nobody, and more with each
 * answer. So calls that wait for a take-over do not keep the process busy that takes over, and a server that
 * is too slow gets less to do. `Missed` is the end of a call that found no process active.
 */
export class Turns<Missed> {
  /** One more with each answer, half as many with each call that found nobody. */
  #most = askedMax
  #running = 0
  readonly #waiting = new Set<(missed?: Missed) => void>()

  /** Waits for its turn, or until another call has found nobody: its end is returned, and good for both. */
  take(): Promise<Missed | undefined> {
    return new Promise((resolve) => {
      this.#waiting.add(resolve)
      this.#next()
    })
  }

  answered(): void {
    this.#most = Math.min(this.#most + 1, askedMax)
    this.#ended()
  }

  missed(how: Missed): void {
    this.#most = Math.ceil(this.#most / 2)
    if (this.#most === 1) {
      for (const resolve of this.#waiting) resolve(how)
      this.#waiting.clear()
    }
    setTimeout(() => this.#ended(), probeMs)
  }

  #ended(): void {
    this.#running--
    this.#next()
  }

  #next(): void {
    for (const resolve of this.#waiting) {
      if (this.#running >= this.#most) return
      this.#running++
      this.#waiting.delete(resolve)
      resolve()
    }
  }
}
