import { changeError } from '../failure.ts'

/** Checks a name. Names appear in records, file names, URLs and key prefixes. */
export function checkName(kind: string, name: string): void {
  if (/^[a-z][a-zA-Z0-9-]{0,63}$/.test(name)) return
  throw changeError(
    'app-invalid',
    `The ${kind} name ${JSON.stringify(name)} must be 1 to 64 letters, digits and hyphens, and begin with ` +
      'a lowercase letter.',
  )
}

/** Whether a message is a system message, such as a claim or an operator's decision. No app can use such a name. */
export const isSystemMessage = (type: string): boolean => type.startsWith('hence:')

/** The name in SQL of a table or a view: `order-lines` → `order_lines`. */
export const sqlName = (name: string): string =>
  name.replaceAll('-', '_').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** An identifier in SQL. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
