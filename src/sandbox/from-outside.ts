import { changeError, type HenceError } from '../failure.ts'

/** The functions that a realm calls in the process: from text to text. */
export const conversions = {
  log: (level: 'log' | 'warn' | 'error', ...args: unknown[]): void => console[level](...args),
  urlParts(text: string, base: string | undefined): readonly string[] | undefined {
    const url = URL.parse(text, base)
    if (url === null) return undefined
    const { href, origin, protocol, username, password, host, hostname, port, pathname, search, hash } = url
    return [href, origin, protocol, username, password, host, hostname, port, pathname, search, hash]
  },
  base64: { decode: (text: string) => attempt(atob, text), encode: (text: string) => attempt(btoa, text) },
}

function attempt(convert: (text: string) => string, text: string): string | undefined {
  try {
    return convert(text)
  } catch {
    return undefined
  }
}

/** A promise is refused where it is made, since nobody would wait for it: the derivation has ended by then. */
export const promiseMade = () =>
  changeError(
    'derivation-asynchronous',
    'The app called an async function or made a promise. Derivations, keys, schemas and upcasters are synchronous: ' +
      'bring what they wait for as the input of a request.',
  )

/** A rejection that the derivation made and did not return, so that the request would have been accepted. */
export function rejectionNotReturned(reason: unknown, how: 'made' | 'thrown'): HenceError {
  const text = JSON.stringify(String(reason))
  return changeError(
    'rejection-not-returned',
    how === 'made'
      ? `The derivation called reject(${text}) and did not return it: write \`return reject(${text})\`. Only the ` +
          'derivation of a request can reject; a reaction or a compensation emits an event or asks for an effect.'
      : `The derivation threw reject(${text}): write \`return reject(${text})\`.`,
  )
}
