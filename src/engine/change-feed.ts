import type { TableChange } from '../app/index.ts'
import { changeError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import type { Changes } from '../query/reader.ts'

/** Reports changed rows: to subscribers as records are applied, and to readers that follow at their own pace. */
export class ChangeFeed {
  readonly #closed: AbortSignal
  readonly #subscribers = new Set<(changes: readonly TableChange[]) => void>()
  /** Settles when the next record is applied. */
  #next: PromiseWithResolvers<void> | undefined

  /** @param closed aborted when the engine begins to close */
  constructor(closed: AbortSignal) {
    this.#closed = closed
  }

  /** @returns ends the subscription */
  subscribe(subscriber: (changes: readonly TableChange[]) => void): () => void {
    // The same function may subscribe twice.
    const added = (changes: readonly TableChange[]) => subscriber(changes)
    this.#subscribers.add(added)
    return () => this.#subscribers.delete(added)
  }

  get hasSubscribers(): boolean {
    return this.#subscribers.size > 0
  }

  /** Passes changes to the subscribers. Returns what they threw. */
  publish(changes: readonly TableChange[]): unknown[] {
    const errors: unknown[] = []
    for (const subscriber of this.#subscribers) {
      try {
        subscriber(changes)
      } catch (error) {
        errors.push(error)
      }
    }
    return errors
  }

  /** A record was applied, or another generation is live. */
  advance(): void {
    this.#next?.resolve()
    this.#next = undefined
  }

  /** No more records are applied. */
  end(why: Error): void {
    this.#next?.reject(why)
  }

  /** Resolves when the next record is applied; rejects when the engine closes. */
  next(): Promise<void> {
    if (this.#closed.aborted) return Promise.reject(this.#closed.reason)
    this.#next ??= Promise.withResolvers()
    return this.#next.promise
  }

  /**
   * The changes of each record from a position on, and of those to come; ends when the engine closes.
   * @param live returns the live generation
   * @throws HenceError `position-unknown` (change), also when another generation becomes live
   */
  async *read(
    live: () => Generation,
    from: string | undefined,
    signal: AbortSignal | undefined,
    withEffects: boolean,
  ): AsyncGenerator<Changes> {
    const { reader } = live()
    const checkLive = () => {
      if (live().reader !== reader)
        throw changeError(
          'position-unknown',
          'Another generation became live, and its promotion is not reported row by row. ' +
            'Read the tables again, and continue from the current position.',
        )
    }
    const next = async () => {
      checkLive()
      await this.next()
      checkLive()
    }
    try {
      for await (const changes of reader.changes(from, signal, next, withEffects)) {
        checkLive()
        yield changes
      }
    } catch (error) {
      // A generation that was live is closed, perhaps while it is read.
      checkLive()
      if (error !== this.#closed.reason) throw error
    }
  }
}
