import type { App } from '../app/index.ts'
import { setTimer } from '../clock.ts'
import { changeError } from '../failure.ts'
import type { Delivery, Handler } from './handlers.ts'
import type { EffectRow } from './outbox.ts'
import { type Attempts, type DeliveryHost, Tries } from './tries.ts'

/**
 * Delivers effects until each is acknowledged or given up; `tries.ts` decides when one is tried again. The
 * end of an effect is appended to the log as a record. Until that record is applied the effect counts as not
 * delivered, so a crash in between leads to another try under the same id.
 */
export class Deliverer {
  /** By the name of the effect. */
  readonly #tries = new Map<string, Tries>()
  readonly #host: DeliveryHost

  /**
   * @param handlers by the name of the effect; effects without one wait
   * @throws HenceError `option-invalid` (change)
   */
  constructor(app: App, handlers: Readonly<Record<string, Handler | Delivery>>, host: DeliveryHost) {
    this.#host = host
    for (const [name, given] of Object.entries(handlers)) {
      const effect = app.effects.get(name)
      if (effect === undefined) {
        throw changeError(
          'option-invalid',
          `There is a handler for the effect "${name}", which the app "${app.name}" does not define.`,
        )
      }
      const delivery = typeof given === 'function' ? { deliver: given } : given
      this.#tries.set(name, new Tries(effect, delivery, host))
    }
    for (const name of app.effects.keys()) {
      if (this.#tries.has(name)) continue
      host.report({
        level: 'warning',
        code: 'effect-without-handler',
        message: `The effect "${name}" has no handler here: effects of this type are kept and not delivered.`,
      })
    }
  }

  /** Starts with the effects that wait in the outbox. */
  start(): void {
    this.#host.notes?.keepOnly((id) => this.#host.outbox.get(id)?.state === 'pending')
    for (const tries of this.#tries.values()) tries.start()
  }

  /** Adds an effect that a derivation has just asked for. */
  asked(id: string, row: EffectRow): void {
    this.#tries.get(row.type)?.asked(id, row)
  }

  /** The record of this effect's end was applied. */
  ended(type: string, id: string): void {
    this.#tries.get(type)?.ended(id)
  }

  /** Failed tries of an effect that is not delivered yet. */
  attempts(type: string, id: string): Attempts | undefined {
    return this.#tries.get(type)?.attempts(id)
  }

  /** Begins no more tries and waits for those under way; after the grace period it aborts them. */
  async stop(graceMs: number): Promise<void> {
    const all = [...this.#tries.values()]
    const ended = Promise.all(all.map((tries) => tries.stop()))
    const cancelTimer = setTimer(this.#host.clock, graceMs, () => {
      for (const tries of all) tries.abort()
    })
    await ended
    cancelTimer()
  }
}
