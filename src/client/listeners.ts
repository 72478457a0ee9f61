/** Listeners by event name; `Events` has the detail type of each. */
export class Listeners<Events extends object> {
  readonly #heard = new Map<keyof Events, Set<(detail: never) => void>>()

  /** @returns removes the listener */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void {
    // The same function can be added twice, so each registration is wrapped in a new one.
    const heard = (detail: Events[E]) => listener(detail)
    const all = this.#heard.get(event) ?? new Set()
    this.#heard.set(event, all.add(heard))
    return () => all.delete(heard)
  }

  tell<E extends keyof Events>(event: E, detail: Events[E]): void {
    for (const listener of this.#heard.get(event) ?? []) undisturbed(() => listener(detail as never))
  }
}

/** Calls a listener as the platform does: one that throws disturbs no other, and its error is uncaught. */
export function undisturbed(listener: () => void): void {
  try {
    listener()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
