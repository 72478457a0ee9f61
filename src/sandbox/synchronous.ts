import { changeError } from '../failure.ts'

/** Refuses a promise where a derivation, or what belongs to it, should give a value. */
export function assertSynchronous(result: unknown): void {
  const isPromise =
    typeof result === 'object' && result !== null && typeof (result as Promise<unknown>).then === 'function'
  if (!isPromise) return // A rejection that nobody handles would end the process.
  ;(result as Promise<unknown>).then(undefined, () => {})
  throw changeError(
    'derivation-asynchronous',
    'A derivation returned a promise. Derivations are synchronous: bring what it waits for as the input of a request.',
  )
}
