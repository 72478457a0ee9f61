/**
 * What this client has been told is decided, and has not yet read: the latest token of each partition. Reads wait
 * for these, so that whoever was told of a change sees it. Once a read has waited for a token, all later ones see
 * what it stood for, so it is forgotten.
 */
export class Tokens {
  readonly #offsets = new Map<string, number>()

  /** @param token `partition:offset` */
  note(token: string): void {
    const [partition, offset] = partsOf(token)
    if (offset > (this.#offsets.get(partition) ?? -1)) this.#offsets.set(partition, offset)
  }

  list(): string[] {
    return [...this.#offsets].map(([partition, offset]) => `${partition}:${offset}`)
  }

  /** Called when a read that waited for these tokens has answered. */
  seen(tokens: readonly string[]): void {
    for (const token of tokens) {
      const [partition, offset] = partsOf(token)
      if (this.#offsets.get(partition) === offset) this.#offsets.delete(partition)
    }
  }
}

function partsOf(token: string): [partition: string, offset: number] {
  const [partition = '', offset = ''] = token.split(':')
  return [partition, Number(offset)]
}
