import { type Clock, setAlarm } from '../clock.ts'
import { unended } from '../failure.ts'
import { counted } from '../plain-text.ts'
import type { Reporter } from '../report.ts'

/** Effects that are given up together are reported together: once none has followed for so long. */
const quietMs = 1_000
const gatheredMsMax = 60_000
/** The least time between two alarms; it grows while effects are given up. */
const pauseMs = { first: 60_000, most: 60 * 60 * 1000 }

/** Raises one alarm for many effects of a type that are given up. */
export class DeadLetters {
  readonly #type: string
  readonly #host: { readonly clock: Clock; readonly report: Reporter }
  #count = 0
  #last = { id: '', tries: 0, error: '' }
  #firstAt = 0
  #lastAt = 0
  #pauseMs = pauseMs.first
  #reportedAt = Number.NEGATIVE_INFINITY
  #cancel: (() => void) | undefined

  constructor(type: string, host: { readonly clock: Clock; readonly report: Reporter }) {
    this.#type = type
    this.#host = host
  }

  add(id: string, { tries, error }: { readonly tries: number; readonly error: string }): void {
    this.#lastAt = this.#host.clock.now()
    if (this.#count++ === 0) this.#firstAt = this.#lastAt
    this.#last = { id, tries, error }
    this.#plan()
  }

  /** Reports those that were not reported yet. */
  report(): void {
    this.#cancel?.()
    this.#cancel = undefined
    if (this.#count === 0) return
    const { id, tries, error } = this.#last
    const tried = `after ${counted(tries, 'try', 'tries')}: ${unended(error)}. Mend the cause, then send`
    const message =
      this.#count === 1
        ? `The effect "${this.#type}" ${id} was given up ${tried} it again with \`hence effects redrive\`.`
        : `${this.#count.toLocaleString('en')} effects "${this.#type}" were given up, the last one (${id}) ` +
          `${tried} them again with \`hence effects redrive --type ${this.#type}\`.`
    this.#host.report({ level: 'alarm', code: 'effect-dead', message })
    const now = this.#host.clock.now()
    const goesOn = now - this.#reportedAt < 2 * this.#pauseMs
    this.#pauseMs = goesOn ? Math.min(pauseMs.most, this.#pauseMs * 10) : pauseMs.first
    this.#reportedAt = now
    this.#count = 0
  }

  #plan(): void {
    const gathered = Math.min(this.#lastAt + quietMs, this.#firstAt + gatheredMsMax)
    const due = Math.max(gathered, this.#reportedAt + this.#pauseMs)
    this.#cancel ??= setAlarm(this.#host.clock, due, () => {
      this.#cancel = undefined
      const isLate = this.#lastAt + quietMs > this.#host.clock.now() && due < this.#firstAt + gatheredMsMax
      if (isLate) this.#plan()
      else this.report()
    })
  }
}
