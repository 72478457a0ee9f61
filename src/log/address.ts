import { changeError } from '../failure.ts'

/** Refuses parameters of the address of a log that nobody would honour, such as a misspelt one. */
export function checkParameters(given: URLSearchParams, known: readonly string[]): void {
  const unknown = [...given.keys()].find((name) => !known.includes(name))
  if (unknown === undefined) return
  // A ? in a password makes the rest of it such a name.
  const name = /^\w+$/.test(unknown) ? `the parameter "${unknown}"` : 'a parameter'
  throw changeError(
    'option-invalid',
    `The address of the log has ${name}, which means nothing there. It may have ${known.join(', ')}.`,
  )
}
