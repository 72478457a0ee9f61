import { changeError } from '../failure.ts'
import type { Program } from '../sandbox/program.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import { type AdmittedDefinition, type AdmittedRequest, type Input, messageOf } from './message.ts'

export type ValidationResult = AdmittedRequest | { readonly error: unknown }

interface Unvalidated {
  readonly definition: AdmittedDefinition
  readonly input: Input
}

interface ValidationHost<Request> {
  /** How long one validation may take, and a group. */
  limitMs(): number
  program(): Pick<Program, 'realm' | 'deriving'>
  /** Called after a validation was interrupted: then the realm must not be used any more. */
  interrupted(): void
  done(request: Request, validated: ValidationResult): void
}

/**
 * Validates inputs with the app's schemas and computes their keys, in groups: those that arrive until the
 * event loop turns. A schema that does not end costs its request a refusal, and nobody else anything.
 */
export class Validation<Request extends Unvalidated> {
  readonly #host: ValidationHost<Request>
  #waiting: Request[] = []
  /** Settles when all that were added have been validated. */
  #running: Promise<void> | undefined

  constructor(host: ValidationHost<Request>) {
    this.#host = host
  }

  add(request: Request): void {
    this.#waiting.push(request)
    this.#running ??= this.#validateAll().finally(() => {
      this.#running = undefined
    })
  }

  /** Resolves when nothing waits; undefined if nothing does. */
  get idle(): Promise<void> | undefined {
    return this.#running
  }

  async #validateAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      let group: Request[] = []
      let results: ValidationResult[] = []
      const limitMs = this.#host.limitMs()
      const tookMs = await withinLimit(limitMs, () => {
        group = this.#waiting
        this.#waiting = []
        for (const request of group) results.push(this.#validated(request))
      })
      if (tookMs === undefined) results = await this.#singly(group, limitMs)
      for (let i = 0; i < group.length; i++) this.#host.done(group[i]!, results[i]!)
    }
  }

  async #singly(group: readonly Unvalidated[], limitMs: number): Promise<ValidationResult[]> {
    const results: ValidationResult[] = []
    for (const request of group) {
      let result: ValidationResult = { error: tookTooLong(request, limitMs) }
      await withinLimit(limitMs, () => {
        result = this.#validated(request)
      })
      results.push(result)
    }
    this.#host.interrupted()
    return results
  }

  #validated({ definition, input }: Unvalidated): ValidationResult {
    const { realm, deriving } = this.#host.program()
    deriving.bufferBytes = 0
    try {
      return messageOf(definition, input, realm)
    } catch (error) {
      return { error }
    } finally {
      deriving.bufferBytes = undefined
    }
  }
}

const tookTooLong = ({ definition }: Unvalidated, limitMs: number) =>
  changeError(
    'validation-too-long',
    `The schema or the \`key\` of "${definition.name}" took more than ${Math.round(limitMs)} ms for this ` +
      'input. Nothing was written. A regular expression may backtrack: bound what it repeats.',
  )
