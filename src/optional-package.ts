import { HenceError } from './failure.ts'

/**
 * Refuses to go on without a package that only some users need.
 * @param need who needs it: `E-mails need`
 * @throws HenceError `package-missing` (change)
 */
export function requirePackage(name: string, need: string): void {
  try {
    import.meta.resolve(name)
  } catch (cause) {
    throw new HenceError(
      'package-missing',
      'change',
      `${need} the package "${name}", which is not installed here: \`npm install ${name}\`.`,
      { cause },
    )
  }
}
