import { HenceError, type Schema } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'

/**
 * Checks a value that a derivation made against its schema, in dev mode and in tests. Production trusts the
 * types, since a schema costs more than the derivation.
 * @throws HenceError `row-invalid` (change)
 */
export function checkRow(what: string, schema: Schema, value: unknown): void {
  const result = schema['~standard'].validate(value)
  if (result instanceof Promise) {
    throw new HenceError(
      'row-invalid',
      'change',
      `The schema of ${what} is asynchronous; a derivation never waits.`,
    )
  }
  if (result.issues === undefined) return
  throw new HenceError(
    'row-invalid',
    'change',
    `A ${what} does not fit its schema: ${issuesText(result.issues)}.`,
  )
}
