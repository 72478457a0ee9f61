/** The caller's next step after a failed call; every HenceError carries one. */
export type Advice =
  /** Nothing is decided, or the decision is unknown: send the same request, with the same id, again. */
  | 'retry'
  /** Nothing was written: change the request, the app or the option first. */
  | 'change'
  /** An operator must look: data is damaged, in use by another process, or of another version. */
  | 'operator'

/**
 * The one error class of Hence. Match on `code`, which is stable; never on the message, which may improve.
 * `docs/reference/errors.md` has an entry for every code.
 */
export class HenceError extends Error {
  override readonly name = 'HenceError'
  readonly code: string
  readonly advice: Advice

  constructor(code: string, advice: Advice, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.advice = advice
  }
}

export const retryError = (code: string, message: string, options?: ErrorOptions) =>
  new HenceError(code, 'retry', message, options)
export const changeError = (code: string, message: string, options?: ErrorOptions) =>
  new HenceError(code, 'change', message, options)
export const operatorError = (code: string, message: string, options?: ErrorOptions) =>
  new HenceError(code, 'operator', message, options)

/** The beginning of a text that a message repeats: a sender may have made it as long as its request. */
export function shown(text: string, charactersMax = 100): string {
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax).toWellFormed()}…`
}

/** A text in the place of a sentence whose end the message has. */
export const unended = (text: string): string => text.replace(/\.$/, '')

export const thrownText = (thrown: unknown): string =>
  thrown instanceof Error ? thrown.message : String(thrown)

/** The partition key of a derivation that failed, which may have been before the key was known. */
export const failedKey = (key: string | undefined) =>
  key === undefined || key === '' ? 'no known key' : JSON.stringify(key)

/** Thrown to callers of a closed engine, and to those who wait when it closes. */
export const engineClosed = () =>
  retryError('engine-closed', 'The engine is closed. Send the same request to the next one.')

/**
 * Ends each of these, one after the other, whatever becomes of those before.
 * @throws the first of their errors
 */
export async function endAll(ends: readonly (() => unknown)[]): Promise<void> {
  const errors: unknown[] = []
  for (const end of ends) {
    try {
      await end()
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length > 0) throw errors[0]
}
