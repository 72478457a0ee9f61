/** Tells on a terminal how far a long work is, in one line that is written over; elsewhere nothing. */
export class Progress {
  readonly #shown = process.stderr.isTTY
  #what = ''
  #done = 0
  #at = 0

  /** So much more is done of something. */
  add(what: string, amount: number, unit: string): void {
    if (what !== this.#what) this.#done = 0
    this.#what = what
    this.#done += amount
    this.show(() => `${what} ${Math.floor(this.#done)} ${unit}`)
  }

  /** This is how far it is. */
  show(text: (columns: number) => string): void {
    const now = performance.now()
    if (!this.#shown || now - this.#at < everyMs) return
    this.#at = now
    process.stderr.write(`\r\x1b[K${text(process.stderr.columns)}`)
  }

  /** Takes the line away. */
  end(): void {
    if (this.#shown && this.#at > 0) process.stderr.write('\r\x1b[K')
  }
}

const everyMs = 100
