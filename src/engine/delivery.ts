import type { App } from '../app/index.ts'
import type { Clock } from '../clock.ts'
import { inputHash } from '../derivation/early-results.ts'
import { Deliverer } from '../effect/delivery.ts'
import type { Handlers } from '../effect/handlers.ts'
import type { EffectEnd, Outbox } from '../effect/outbox.ts'
import type { Attempts, DeliveryHost, TryNotes } from '../effect/tries.ts'
import { decodeRecord, encodeResult } from '../log/record.ts'
import type { Trace } from '../processor/traces.ts'
import type { Reporter } from '../report.ts'
import type { OutgoingRecord } from '../request/writer.ts'
import type { Program } from '../sandbox/program.ts'

/** How long the attempts under way may go on when delivery stops, in milliseconds. */
const graceMs = 5_000

interface LiveDeliveryOptions {
  /** The version of the code that the handlers were made for. */
  readonly version: string
  readonly handlers: Handlers<App> | undefined
  readonly notes: TryNotes | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly report: Reporter
}

/** Delivers the effects of the live generation, if the engine has handlers. */
export class LiveDelivery {
  readonly #options: LiveDeliveryOptions
  readonly #write: (key: string, result: OutgoingRecord) => void
  #deliverer: Deliverer | undefined
  #outbox: Outbox | undefined

  /** @param write brings the result of an effect to the log of the key that asked for it */
  constructor(options: LiveDeliveryOptions, write: (key: string, result: OutgoingRecord) => void) {
    this.#options = options
    this.#write = write
  }

  /**
   * Begins to deliver the pending effects of an outbox; does nothing if it has begun already, since two would
   * deliver twice.
   */
  start(
    { app, version }: Pick<Program, 'app' | 'version'>,
    { outbox, place }: Pick<DeliveryHost, 'outbox' | 'place'>,
  ): void {
    const { version: given, handlers, notes, clock, random, report } = this.#options
    if (handlers === undefined || this.#deliverer !== undefined) return
    // Code that was promoted may lack some effects.
    const known = Object.entries(handlers).filter(([name]) => version === given || app.effects.has(name))
    this.#outbox = outbox
    this.#deliverer = new Deliverer(app, Object.fromEntries(known) as never, {
      outbox,
      place,
      notes,
      clock,
      random,
      report,
      end: (id, row, end) => this.#write(row.key, resultOf(id, row.input, end)),
    })
    this.#deliverer.start()
  }

  get isRunning(): boolean {
    return this.#deliverer !== undefined
  }

  /** Begins no new attempts, waits a grace period for those under way, and aborts the rest. */
  async stop({ atOnce = false } = {}): Promise<void> {
    await this.#deliverer?.stop(atOnce ? 0 : graceMs)
    this.#deliverer = undefined
  }

  /** Delivers the effects that a record asked for. */
  asked({ derivations }: Trace): void {
    if (this.#deliverer === undefined) return
    for (const { effects } of derivations) {
      for (const id of effects) {
        const row = this.#outbox!.get(id)
        if (row?.state === 'pending') this.#deliverer.asked(id, row)
      }
    }
  }

  /** The result of an effect was applied. */
  ended(id: string): void {
    const row = this.#outbox?.get(id)
    if (row !== undefined) this.#deliverer?.ended(row.type, id)
  }

  /** The failed attempts of an effect that is not delivered yet. */
  attempts(type: string, id: string): Attempts | undefined {
    return this.#deliverer?.attempts(type, id)
  }
}

function resultOf(effect: string, input: string, end: EffectEnd): OutgoingRecord {
  const { done, tries } = end
  const text = done ? JSON.stringify(end.result) : end.error
  const bytes = encodeResult({ kind: 'result', effect, input: inputHash(input), done, tries, text })
  // Decode what was encoded, so that live and replay see the same value: for example, bytes hold no lone
  // surrogates.
  return { record: decodeRecord(bytes), bytes }
}
