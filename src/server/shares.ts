import { assert } from '../assert.ts'

/** Counts something bounded that callers hold, together and each, so that no caller can use up all of it. */
export class Shares {
  readonly #max: number
  readonly #maxEach: number
  readonly #byPrincipal = new Map<string, number>()
  #held = 0

  constructor(max: number, maxEach: number) {
    this.#max = max
    this.#maxEach = maxEach
  }

  get held(): number {
    return this.#held
  }

  hasRoom(principal: string, count: number): boolean {
    const own = this.#byPrincipal.get(principal) ?? 0
    return own + count <= this.#maxEach && this.#held + count <= this.#max
  }

  /** Takes so much, unless that exceeds a bound; returns whether it did. */
  take(principal: string, count = 1): boolean {
    if (!this.hasRoom(principal, count)) return false
    this.add(principal, count)
    return true
  }

  /** Counts what is there already, even beyond a bound: then nobody takes more until it is released. */
  add(principal: string, count: number): void {
    assert(count >= 0, 'a count that is added is not negative', count)
    this.#held += count
    this.#byPrincipal.set(principal, (this.#byPrincipal.get(principal) ?? 0) + count)
  }

  release(principal: string, count = 1): void {
    const own = (this.#byPrincipal.get(principal) ?? 0) - count
    assert(own >= 0, 'a caller releases no more than it holds', own)
    this.#held -= count
    if (own === 0) this.#byPrincipal.delete(principal)
    else this.#byPrincipal.set(principal, own)
  }
}
