import { changeError } from './failure.ts'

/**
 * Throws unless an optional package is installed.
 * @param need the subject of the message, for example `E-mails need`
 * @throws HenceError `package-missing` (change)
 */
export function requirePackage(name: string, need: string): void {
  try {
    import.meta.resolve(name)
  } catch (cause) {
    throw changeError(
      'package-missing',
      `${need} the package "${name}", which is not installed here: \`npm install ${name}\`.`,
      { cause },
    )
  }
}
