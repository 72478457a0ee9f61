/** Functions that hear events by name; `Events` gives the detail of each. */
export class Listeners<Events extends object> {
  readonly #heard = new Map<keyof Events, Set<(detail: never) => void>>()

  /** @returns ends it */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void {
    // The same function may listen twice, so what is kept is a function of its own.
    const heard = (detail: Events[E]) => listener(detail)
    const all = this.#heard.get(event) ?? new Set()
    this.#heard.set(event, all.add(heard))
    return () => all.delete(heard)
  }

  tell<E extends keyof Events>(event: E, detail: Events[E]): void {
    for (const listener of this.#heard.get(event) ?? []) {
      undisturbed(() => listener(detail as never))
    }
  }
}

/**
 * Calls a listener as the platform does with its events: one that throws disturbs nobody else, and its error is
 * an uncaught one.
 */
export function undisturbed(listener: () => void): void {
  try {
    listener()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
