/** So many are kept; the events of requests that were decided longer ago have long been applied. */
const tokensMax = 1_000

/**
 * What this client has been told is accepted, and has not read since. Reads wait for these tokens, so that whoever was
 * told of a change sees it, in whatever partition it is. Each stands for its own request alone, so the latest does not
 * do for those before it. Once a read has waited for a token, all later ones see what it stood for.
 */
export class Tokens {
  readonly #tokens = new Set<string>()

  note(token: string): void {
    this.#tokens.add(token)
    if (this.#tokens.size <= tokensMax) return
    const [oldest] = this.#tokens
    this.#tokens.delete(oldest!)
  }

  list(): string[] {
    return [...this.#tokens]
  }

  /** Called when a read that waited for these tokens has answered. */
  seen(tokens: readonly string[]): void {
    for (const token of tokens) this.#tokens.delete(token)
  }
}
