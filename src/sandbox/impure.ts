import { changeError } from '../failure.ts'

/** Names that are absent from the realm, each with its replacement. */
const instead: Readonly<Record<string, string>> = {
  Date: 'tx.now, the log time of the record',
  'Math.random': 'tx.random()',
  crypto: 'tx.uuid() and tx.random(); hash outside and send the result as input',
  performance: 'tx.now, the log time of the record',
  process: 'an input of the request: the environment differs from machine to machine',
  fetch: 'a request that brings what you need as its input',
  WebSocket: 'a request that brings what you need as its input',
  EventSource: 'a request that brings what you need as its input',
  XMLHttpRequest: 'a request that brings what you need as its input',
  setTimeout: 'tx.schedule(): a derivation is synchronous',
  setInterval: 'tx.schedule(): a derivation is synchronous',
  setImmediate: 'plain code: a derivation is synchronous',
  queueMicrotask: 'plain code: a derivation is synchronous',
  Intl: 'plain code: locale data differs from machine to machine',
  Temporal:
    'numbers of milliseconds, the UTC methods of Date, or a library: Temporal depends on zone and locale data',
  locale: 'the methods without "Locale" in their names: locale data differs from machine to machine',
  'local time':
    'the UTC methods, or ISO 8601 text with "Z" or an offset: the time zone differs from machine to machine',
  URL: 'host names in ASCII: how others are written depends on the version of Unicode',
  WeakRef: 'a table: when garbage is collected differs from run to run',
  FinalizationRegistry: 'a table: when garbage is collected differs from run to run',
  SharedArrayBuffer: 'a table',
  Atomics: 'a table',
  WebAssembly: 'plain code',
  eval: 'plain code',
  navigator: 'an input of the request',
  localStorage: 'a table',
  sessionStorage: 'a table',
  require: 'an import at the top of the module',
  global: 'globalThis',
}

/** Names that the realm lacks. A module may look for them while it loads; a derivation that does is refused. */
export const missingNames: readonly string[] = Object.keys(instead).filter(
  (name) => /^\w+$/.test(name) && !['Date', 'URL', 'locale'].includes(name),
)

/** @throws HenceError `impure` (change), always; it says what to use instead */
export function refuseImpure(what: string): never {
  const use = instead[what.split(' (')[0]!] ?? 'what tx offers'
  throw changeError('impure', `A derivation used ${what}. Use ${use}.`)
}
