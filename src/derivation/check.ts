import type { Schema } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { changeError } from '../failure.ts'

/**
 * Checks a value that a derivation made against its schema: in dev mode, in tests, and where the app asks for
 * it. Otherwise the types are trusted, since a schema costs more than the derivation.
 * @throws HenceError `row-invalid` (change)
 */
export function checkRow(what: string, schema: Schema, value: unknown): void {
  // The realm has no promises, so this is not one.
  const result = schema['~standard'].validate(value) as Awaited<ReturnType<Schema['~standard']['validate']>>
  if (result.issues === undefined) return
  throw changeError('row-invalid', `A ${what} does not fit its schema: ${issuesText(result.issues)}.`)
}
