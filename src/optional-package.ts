import { changeError } from './failure.ts'

/** Throws unless an optional package is installed. `need` begins the message: `E-mails need`. */
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
