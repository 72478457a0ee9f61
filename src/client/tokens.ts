/** How many tokens are kept; the events of requests decided longer ago have long been applied. */
const tokensMax = 1_000

/**
 * Tokens of accepted requests that this client has not read past yet. Reads wait for these tokens, so that a
 * caller who received an outcome sees it, in whatever partition it is. Each token stands for its own request,
 * so the latest does not replace those before it. Once a read has waited for a token, all later reads see it.
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
