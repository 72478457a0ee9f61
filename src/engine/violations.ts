import type { App, Reply } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import type { Standing, Violation } from '../constraint/tables.ts'
import type { ResolveInput } from '../derivation/operator.ts'
import { HenceError } from '../failure.ts'
import type { KeyedViolation, Reader } from '../query/reader.ts'

/** The violations of an app's constraints, and decisions about them. */
export interface Violations {
  /** The oldest first: those in one state, or all. At most `limit`, by default 100. */
  list(options?: { readonly state?: Violation['state']; readonly limit?: number }): Promise<KeyedViolation[]>
  /** One violation, by the key that its constraint is judged under and its id. */
  get(key: string, id: string): Promise<KeyedViolation | undefined>
  /**
   * The limit of a constraint at a key, without its margin, and how much of it is claimed.
   * @throws HenceError `unknown-definition` (change)
   */
  standing(constraint: string, key: string): Promise<Pick<Standing, 'limit' | 'claimed'>>
  /**
   * Decides an open violation. This is a request like any other: it has an id, a principal and an offset in the log. The
   * limit of a unique constraint stays 1: `limit-fixed`.
   */
  resolve(
    decision: ResolveInput,
    options: SubmitOptions,
  ): Promise<Reply<null, 'violation-unknown' | 'violation-not-open' | 'victim-unknown' | 'limit-fixed'>>
}

/** @param live the app and the reader of the live generation, which a promotion replaces */
export function violationsOf(
  live: () => { readonly app: App; readonly reader: Reader },
  submit: (type: string, input: unknown, options: SubmitOptions) => Promise<never>,
): Violations {
  return {
    async list({ state, limit = 100 } = {}) {
      return live().reader.violations({ limit, ...(state !== undefined && { state }) })
    },
    async get(key, id) {
      return live().reader.violation(key, id)
    },
    async standing(constraint, key) {
      const { app, reader } = live()
      const definition = app.constraints.get(constraint)
      if (definition === undefined) throw unknownConstraint(app, constraint)
      return reader.standing(constraint, key) ?? { limit: definition.limit, claimed: 0 }
    },
    resolve: (decision, options) => submit('hence:resolve-violation', decision, options),
  }
}

function unknownConstraint(app: App, constraint: string): HenceError {
  return new HenceError(
    'unknown-definition',
    'change',
    `The app "${app.name}" has no constraint "${constraint}"; it has ${[...app.constraints.keys()].join(', ')}.`,
  )
}
