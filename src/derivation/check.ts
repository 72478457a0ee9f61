import type { Schema } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { changeError } from '../failure.ts'

/** Checks a derived value in dev mode, in tests and on request: a schema costs more than the derivation. */
export function checkRow(what: string, schema: Schema, value: unknown): void {
  // The realm has no promises, so this is not one.
  const result = schema['~standard'].validate(value) as Awaited<ReturnType<Schema['~standard']['validate']>>
  if (result.issues === undefined) return
  throw changeError('row-invalid', `A ${what} does not fit its schema: ${issuesText(result.issues)}.`)
}
