import { HenceError } from '../failure.ts'
import type { Realm } from '../sandbox/realm.ts'
import { endsWithin } from '../sandbox/timed.ts'
import { type AdmittedDefinition, type AdmittedRequest, type Input, messageOf } from './message.ts'

/** A request whose input is to be validated. */
interface Unvalidated {
  readonly definition: AdmittedDefinition
  readonly input: Input
  /** Called with the validated request, or with the error of validating it. */
  readonly done: (validated: AdmittedRequest | { readonly error: unknown }) => void
}

/**
 * Validates inputs with the app's schemas and computes their keys, those of one turn of the event loop as a group: one thread
 * watches the time of a whole group, which costs about a tenth of a millisecond. A schema that does not end, for example because
 * of a regular expression that backtracks, costs its request a refusal, and nobody else anything.
 */
export class Validation {
  readonly #limitMs: () => number
  readonly #realm: () => Realm
  readonly #interrupted: () => void
  #waiting: Unvalidated[] = []

  /**
   * @param limitMs returns how long one validation may take, and a group
   * @param realm returns the realm of the app
   * @param interrupted called after a validation was interrupted: then the realm must not be used any more
   */
  constructor(limitMs: () => number, realm: () => Realm, interrupted: () => void) {
    this.#limitMs = limitMs
    this.#realm = realm
    this.#interrupted = interrupted
  }

  /** Queues a request; it is validated by the next `flush`. */
  add(request: Unvalidated): void {
    if (this.#waiting.push(request) === 1) setImmediate(() => this.flush())
  }

  /** Validates everything that is queued. */
  flush(): void {
    if (this.#waiting.length === 0) return
    const group = this.#waiting
    this.#waiting = []
    const results: Parameters<Unvalidated['done']>[0][] = []
    const limitMs = this.#limitMs()
    const whole = endsWithin(limitMs, () => {
      for (const request of group) results.push(this.#validated(request))
    })
    if (whole === undefined) {
      results.length = 0
      for (const request of group) {
        let result: Parameters<Unvalidated['done']>[0] = { error: tookTooLong(request, limitMs) }
        endsWithin(limitMs, () => {
          result = this.#validated(request)
        })
        results.push(result)
      }
      this.#interrupted()
    }
    for (const [i, { done }] of group.entries()) done(results[i]!)
  }

  #validated({ definition, input }: Unvalidated): Parameters<Unvalidated['done']>[0] {
    try {
      return messageOf(definition, input, this.#realm())
    } catch (error) {
      return { error }
    }
  }
}

function tookTooLong({ definition }: Unvalidated, limitMs: number): HenceError {
  return new HenceError(
    'validation-too-long',
    'change',
    `The schema or the \`key\` of "${definition.name}" took more than ${Math.round(limitMs)} ms for this input. Nothing was written. ` +
      'A regular expression may backtrack: bound what it repeats.',
  )
}
