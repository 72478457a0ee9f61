import { changeError } from '../failure.ts'
import type { Program } from '../sandbox/program.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import { type AdmittedDefinition, type AdmittedRequest, type Input, messageOf } from './message.ts'

export type ValidationResult = AdmittedRequest | { readonly error: unknown }

interface Unvalidated {
  readonly definition: AdmittedDefinition
  readonly input: Input
}

/**
 * Validates inputs with the app's schemas and computes their keys, in groups: those that arrive until the
 * event loop turns. A schema that does not end, for example because of a regular expression that backtracks,
 * costs its request a refusal, and nobody else anything.
 */
export class Validation<Request extends Unvalidated> {
  readonly #limitMs: () => number
  readonly #program: () => Pick<Program, 'realm' | 'deriving'>
  readonly #interrupted: () => void
  readonly #done: (request: Request, validated: ValidationResult) => void
  #waiting: Request[] = []
  /** Settles when all that were added have been validated. */
  #running: Promise<void> | undefined

  /**
   * @param limitMs returns how long one validation may take, and a group
   * @param program returns the app's code
   * @param interrupted called after a validation was interrupted: then the realm must not be used any more
   * @param done called with each result
   */
  constructor(
    limitMs: () => number,
    program: () => Pick<Program, 'realm' | 'deriving'>,
    interrupted: () => void,
    done: (request: Request, validated: ValidationResult) => void,
  ) {
    this.#limitMs = limitMs
    this.#program = program
    this.#interrupted = interrupted
    this.#done = done
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
      const limitMs = this.#limitMs()
      const tookMs = await withinLimit(limitMs, () => {
        group = this.#waiting
        this.#waiting = []
        for (const request of group) results.push(this.#validated(request))
      })
      if (tookMs === undefined) results = await this.#singly(group, limitMs)
      for (let i = 0; i < group.length; i++) this.#done(group[i]!, results[i]!)
    }
  }

  async #singly(group: readonly Unvalidated[], limitMs: number): Promise<ValidationResult[]> {
    const results: ValidationResult[] = []
    for (const request of group) {
      let result: ValidationResult = { error: tookTooLong(request, limitMs) }
      await withinLimit(limitMs, () => {
        const validated = this.#validated(request)
        result = validated
      })
      results.push(result)
    }
    this.#interrupted()
    return results
  }

  #validated({ definition, input }: Unvalidated): ValidationResult {
    const { realm, deriving } = this.#program()
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
