import { type Clock, setAlarm } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { Views } from '../view/views.ts'
import type { RequestPath } from './request-path.ts'

/** Whether an engine takes requests, and the error that it refuses them with if it does not. */
export type Health =
  | { readonly ready: true }
  | { readonly ready: false; readonly code: string; readonly message: string }

/** How often the data directory is checked while nobody asks, in milliseconds. */
const everyMs = 1_000

/** Checks once a second that the data directory is as this process left it: a loss stops the engine. */
export class HealthCheck {
  readonly #storage: Storage
  readonly #path: RequestPath
  readonly #views: Views
  readonly #clock: Clock
  #cancel = () => {}
  /** Why the last check could not tell; undefined if it could. */
  #unsure: HenceError | undefined

  constructor(storage: Storage, path: RequestPath, views: Views, clock: Clock) {
    this.#storage = storage
    this.#path = path
    this.#views = views
    this.#clock = clock
    if (storage.check) this.#later()
  }

  async health(): Promise<Health> {
    const { closed } = this.#path
    if (!closed.aborted) await this.#check()
    const why = closed.aborted ? (closed.reason as HenceError) : (this.#path.heldUp ?? this.#unsure)
    if (why === undefined) return { ready: true }
    const { code, message } = why
    return { ready: false, code, message }
  }

  stop(): void {
    this.#cancel()
  }

  #later(): void {
    this.#cancel = setAlarm(this.#clock, this.#clock.now() + everyMs, () => {
      void this.#check().then(() => {
        if (!this.#path.closed.aborted) this.#later()
      })
    })
  }

  async #check(): Promise<void> {
    try {
      await this.#storage.check?.()
      this.#unsure = undefined
      const { states } = this.#storage
      states?.tend(this.#path.live.number).catch((error) => this.#path.halt(error))
      for (const name of this.#views.stores)
        states?.tend(name).catch((error) => this.#views.damaged(name, error))
    } catch (error) {
      // A failed call does not say that files are lost: an append checks by itself, the next check may pass.
      const unsure = fileFailure(error)
      if (unsure === undefined) return this.#path.halt(error)
      if (this.#unsure === undefined) this.#path.warn(unsure)
      this.#unsure = unsure
    }
  }
}
