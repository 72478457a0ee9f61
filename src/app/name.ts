import { HenceError } from '../failure.ts'

/**
 * Names stand in records, file names, addresses and key prefixes, so they are kept plain.
 * @throws HenceError `app-invalid` (change)
 */
export function checkName(kind: string, name: string): void {
  if (/^[a-z][a-zA-Z0-9-]{0,63}$/.test(name)) return
  throw new HenceError(
    'app-invalid',
    'change',
    `The ${kind} name ${JSON.stringify(name)} must be 1 to 64 letters, digits and hyphens, and begin with a small letter.`,
  )
}

/** Whether a message is one of Hence's own, such as a claim or what an operator decides; no app can use such a name. */
export function isSystemMessage(type: string): boolean {
  return type.startsWith('hence:')
}
