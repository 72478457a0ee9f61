/** How many keys are counted at a time. */
const countedMax = 64

/**
 * Finds the key that more than half of many messages have, in bounded memory: Misra and Gries, *Finding
 * repeated elements* (1982). A count is too low by at most a 65th of the messages, and exact while there were
 * no more than 64 keys.
 */
export class FrequentKeys {
  readonly #counts = new Map<string, number>()
  #all = 0

  add(key: string): void {
    this.#all++
    const known = this.#counts.get(key)
    if (known !== undefined || this.#counts.size < countedMax) {
      this.#counts.set(key, (known ?? 0) + 1)
      return
    }
    for (const [each, count] of this.#counts) {
      if (count === 1) this.#counts.delete(each)
      else this.#counts.set(each, count - 1)
    }
  }

  /** The key with the greatest count, and how many keys were added. */
  most(): { readonly key: string; readonly count: number; readonly of: number } {
    let most: readonly [string, number] = ['', 0]
    for (const each of this.#counts) if (each[1] > most[1]) most = each
    return { key: most[0], count: most[1], of: this.#all }
  }
}
