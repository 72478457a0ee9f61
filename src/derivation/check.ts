import { HenceError, type Schema } from '../app/index.ts'

/**
 * Holds a value that a derivation made against its schema; in dev mode and in tests, where mistakes should
 * show. Production trusts the types, since a schema costs more than the derivation.
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
  const issues = result.issues.map(({ path, message }) => {
    const place = path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.')
    return place ? `${place}: ${message}` : message
  })
  throw new HenceError('row-invalid', 'change', `A ${what} does not fit its schema: ${issues.join('; ')}.`)
}
