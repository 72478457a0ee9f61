/** Counts what is under way, so that a server which closes can wait for it. */
export class Activity {
  #count = 0
  readonly #waiting: (() => void)[] = []

  begin(): void {
    this.#count++
  }

  end(): void {
    if (--this.#count > 0) return
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** Resolves when nothing is under way, or the time is over; says whether nothing is. */
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
