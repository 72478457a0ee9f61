import type { App } from '../app/index.ts'
import { type Clock, setTimer } from '../clock.ts'
import { inputHash } from '../derivation/early-results.ts'
import type { Delivery, Handler, Handlers } from '../effect/handlers.ts'
import type { EffectEnd, Outbox } from '../effect/outbox.ts'
import { type Attempts, type DeliveryHost, Tries, type TryNotes } from '../effect/tries.ts'
import { changeError } from '../failure.ts'
import { decodeRecord, encodeResult } from '../log/record.ts'
import type { Trace } from '../processor/trace.ts'
import type { Reporter } from '../report.ts'
import type { OutgoingRecord } from '../request/writer.ts'
import type { Program } from '../sandbox/program.ts'
import { terminatedRun } from '../sandbox/watchdog.ts'

/** How long the attempts under way may go on when delivery stops, in milliseconds. */
const graceMs = 5_000

/** The effects of a generation, and their order. */
export interface EffectSource extends Pick<DeliveryHost, 'place'> {
  readonly outbox: Outbox
}

interface LiveDeliveryOptions {
  /** The version of the code that the handlers were made for. */
  readonly version: string
  readonly handlers?: Handlers<App> | undefined
  readonly notes: TryNotes | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly report: Reporter
  readonly timed: DeliveryHost['timed']
}

/**
 * Delivers the effects of the live generation, if the engine has handlers, until each is acknowledged or
 * given up; `tries.ts` decides when one is tried again. The end of an effect is appended to the log as a
 * record. Until that record is applied the effect counts as not delivered, so a crash in between leads to
 * another try under the same id.
 */
export class LiveDelivery {
  readonly #options: LiveDeliveryOptions
  readonly #write: (key: string, result: OutgoingRecord) => void
  /** By the name of the effect; undefined while nothing is delivered. */
  #tries: ReadonlyMap<string, Tries> | undefined
  #source: EffectSource | undefined
  #isPaused = false

  /** @param write brings the result of an effect to the log of the key that asked for it */
  constructor(options: LiveDeliveryOptions, write: (key: string, result: OutgoingRecord) => void) {
    this.#options = options
    this.#write = write
  }

  /** Begins to deliver the pending effects, unless it has begun: two would deliver twice. */
  start({ app, version }: Pick<Program, 'app' | 'version'>, source: EffectSource): void {
    const { version: given, handlers, ...shared } = this.#options
    if (handlers === undefined || this.#tries !== undefined) return
    this.#source = source
    const host: DeliveryHost = {
      ...shared,
      outbox: () => this.#source!.outbox,
      unreadable: terminatedRun,
      place: (id) => this.#source!.place(id),
      end: (id, row, end) => this.#write(row.key, resultOf(id, row.input, end)),
    }
    const tries = new Map<string, Tries>()
    for (const [name, handler] of Object.entries<Handler | Delivery>(handlers)) {
      const effect = app.effects.get(name)
      if (effect !== undefined) {
        tries.set(
          name,
          new Tries(effect, typeof handler === 'function' ? { deliver: handler } : handler, host),
        )
      } else if (version === given) {
        throw changeError(
          'option-invalid',
          `There is a handler for the effect "${name}", which the app "${app.name}" does not define.`,
        )
      } // Code that was promoted may lack some effects.
    }
    for (const name of app.effects.keys()) {
      if (tries.has(name)) continue
      shared.report({
        level: 'warning',
        code: 'effect-without-handler',
        message: `The effect "${name}" has no handler here: effects of this type are kept and not delivered.`,
      })
    }
    this.#tries = tries
    // Paused, this outbox may lack results that the log has.
    if (this.#isPaused) this.pause()
    else this.resume(source)
  }

  /** The outbox cannot be read for now. The tries under way go on: their calls reach receivers once. */
  pause(): void {
    this.#isPaused = true
    for (const each of this.#tries?.values() ?? []) each.pause()
  }

  /** Goes on with an outbox that is derived again, from the same log. */
  resume(source: EffectSource): void {
    this.#isPaused = false
    this.#source = source
    if (this.#tries === undefined) return
    this.#options.notes?.keepOnly((id) => source.outbox.get(id)?.state === 'pending')
    for (const each of this.#tries.values()) each.resume()
  }

  /** Begins no new tries, waits a grace period for those under way, and aborts the rest. */
  async stop({ atOnce = false } = {}): Promise<void> {
    const all = [...(this.#tries?.values() ?? [])]
    const ended = Promise.all(all.map((tries) => tries.stop()))
    const cancelTimer = setTimer(this.#options.clock, atOnce ? 0 : graceMs, () => {
      for (const tries of all) tries.abort()
    })
    await ended
    cancelTimer()
    this.#tries = undefined
  }

  /** Delivers the effects that a record asked for. */
  asked({ derivations }: Trace): void {
    if (this.#tries === undefined || this.#isPaused) return
    for (const { effects } of derivations) {
      for (const id of effects) {
        const row = this.#source!.outbox.get(id)
        if (row?.state === 'pending') this.#tries.get(row.type)?.asked(id, row)
      }
    }
  }

  /** The result of an effect was applied. */
  ended(id: string): void {
    if (this.#isPaused) return
    const row = this.#source?.outbox.get(id)
    if (row !== undefined) this.#tries?.get(row.type)?.ended(id)
  }

  /** The failed attempts of an effect that is not delivered yet. */
  attempts(type: string, id: string): Attempts | undefined {
    return this.#tries?.get(type)?.attempts(id)
  }
}

function resultOf(effect: string, input: string, end: EffectEnd): OutgoingRecord {
  const { done, tries, ms } = end
  const text = done ? JSON.stringify(end.result) : end.error
  const bytes = encodeResult({ kind: 'result', effect, input: inputHash(input), done, tries, ms, text })
  // Decode what was encoded, so that live and replay see the same: bytes hold no lone surrogates.
  return { record: decodeRecord(bytes), bytes }
}
