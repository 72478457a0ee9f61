/**
 * - `unanswered`: there is a network, but the server does not answer
 * - `stranger`: the server answers, but does not know this passenger (any more)
 */
export type ConnectionState = 'online' | 'offline' | 'unanswered' | 'stranger'

/** Watches whether the server answers, in every request of the client. */
export class Connection {
  readonly #changed: () => void
  #heard: Exclude<ConnectionState, 'offline'> = 'online'

  constructor(changed: () => void) {
    this.#changed = changed
    addEventListener('online', changed)
    addEventListener('offline', changed)
  }

  get state(): ConnectionState {
    return navigator.onLine ? this.#heard : 'offline'
  }

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      const response = await globalThis.fetch(input, init)
      this.#note(response.status === 401 ? 'stranger' : response.status < 500 ? 'online' : 'unanswered')
      return response
    } catch (error) {
      // A request that the page aborted says nothing about the server.
      if (!init?.signal?.aborted) this.#note('unanswered')
      throw error
    }
  }

  #note(heard: Exclude<ConnectionState, 'offline'>): void {
    if (this.#heard === heard) return
    this.#heard = heard
    this.#changed()
  }
}
