import type { Reply } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import type { UsageShown, Violation } from '../constraint/tables.ts'
import type { ResolveInput } from '../derivation/operator.ts'
import { changeError } from '../failure.ts'
import type { KeyedClaim, KeyedViolation } from '../query/judged.ts'
import type { RequestPath } from './request-path.ts'

/** The violations of an app's constraints, and decisions about them. */
export interface Violations {
  /** The oldest first: those in one state, or all. At most `limit`, by default 100. */
  list(options?: { readonly state?: Violation['state']; readonly limit?: number }): Promise<KeyedViolation[]>
  /** One violation, by the key that its constraint is judged under and its id. */
  get(key: string, id: string): Promise<KeyedViolation | undefined>
  /**
   * The limit of a constraint at a key, without its margin; the units claimed, those in excess and, if it has
   * a waiting list, how many claims wait.
   * @throws HenceError `unknown-definition` (change)
   */
  usage(constraint: string, key: string): Promise<UsageShown>
  /** The claims on a key, those that give way first before the others. At most `limit`, by default 100. */
  claims(constraint: string, key: string, options?: { readonly limit?: number }): Promise<KeyedClaim[]>
  /**
   * Decides an open violation. This is a request like any other: it has an id, a principal and an offset in
   * the log. The limit of a unique constraint stays 1: `limit-fixed`.
   */
  resolve(
    decision: ResolveInput,
    options: SubmitOptions,
  ): Promise<Reply<null, 'violation-unknown' | 'violation-not-open' | 'victim-unknown' | 'limit-fixed'>>
}

export function violationsOf(path: RequestPath): Violations {
  return {
    async list({ state, limit = 100 } = {}) {
      return (await path.settled()).reader.judged.violations({ limit, ...(state !== undefined && { state }) })
    },
    async get(key, id) {
      return (await path.settled()).reader.judged.violation(key, id)
    },
    async usage(constraint, key) {
      const { app } = path.live.program
      const definition = app.constraints.get(constraint)
      if (definition === undefined)
        throw changeError(
          'unknown-definition',
          `The app "${app.name}" has no constraint "${constraint}"; it has ${[...app.constraints.keys()].join(', ')}.`,
        )
      return (await path.settled()).reader.judged.usage(definition, key)
    },
    async claims(constraint, key, { limit = 100 } = {}) {
      return (await path.settled()).reader.judged.claims(constraint, key, limit)
    },
    resolve: (decision, options) =>
      path.submit('hence:resolve-violation', decision, options) as Promise<never>,
  }
}
