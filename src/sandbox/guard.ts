import { HenceError } from '../failure.ts'

/** Says whether a derivation is running; the guards refuse only then. */
export interface Deriving {
  active: boolean
  /** What `tx` threw that is not the app's own fault, such as a state that cannot be read. */
  fault?: unknown
}

/** What is taken away from a derivation, and what it should use instead. */
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
  setTimeout: 'a request that comes later: a derivation is synchronous',
  setInterval: 'a request that comes later: a derivation is synchronous',
  setImmediate: 'plain code: a derivation is synchronous',
  queueMicrotask: 'plain code: a derivation is synchronous',
  Intl: 'plain code: locale data differs from machine to machine',
  locale: 'the methods without "Locale" in their names: locale data differs from machine to machine',
  'local time':
    'the UTC methods, or text with "Z" or an offset: the time zone differs from machine to machine',
  WeakRef: 'a table: when garbage is collected differs from run to run',
  FinalizationRegistry: 'a table: when garbage is collected differs from run to run',
  SharedArrayBuffer: 'a table',
  Atomics: 'a table',
  WebAssembly: 'plain code',
  navigator: 'an input of the request',
  localStorage: 'a table',
  sessionStorage: 'a table',
  require: 'an import at the top of the module',
  global: 'globalThis',
}

/** Names that exist in some realms only; a pure module may look for them while it loads. */
export const takenNames: readonly string[] = Object.keys(instead).filter(
  (name) => /^\w+$/.test(name) && name !== 'Date' && name !== 'locale',
)

/** @throws always HenceError `impure` (change), which says what to use instead */
export function refuseImpure(what: string): never {
  const use = instead[what.split(' (')[0]!] ?? 'what tx offers'
  throw new HenceError('impure', 'change', `A derivation used ${what}. Use ${use}.`)
}

/** What the guards of one realm need from outside it. */
export interface GuardHost {
  readonly deriving: Deriving
  readonly refuse: (what: string) => never
  readonly takenNames: readonly string[]
}

/**
 * Hides the clock, randomness and everything else that may differ between two runs. The source of this
 * function is evaluated in every realm, so it uses nothing from outside its arguments.
 *
 * In a sandbox the realm's own objects are changed for good. In the main realm (`host` is true), which is
 * shared with the rest of the process, the names become accessors that give the ordinary thing unless a
 * derivation is running. This finds mistakes; it does not hold against malice.
 *
 * @returns takes the guards off again (main realm only)
 */
export function installGuard({ deriving, refuse, takenNames }: GuardHost, host: boolean): () => void {
  const scope = globalThis as unknown as Record<string, unknown>
  const RealDate = Date
  const RealMath = Math

  const strictDate = (): DateConstructor => {
    const zoned = /^[+-]?\d{4,6}-\d\d-\d\d$|^[+-]?\d{4,6}(-\d\d){0,2}T.*(Z|[+-]\d\d:?\d\d)$/
    const check = (args: unknown[]) => {
      if (args.length === 0) refuse('Date (the current time)')
      if (args.length > 1) refuse('local time (new Date(year, month, …))')
      if (typeof args[0] === 'string' && !zoned.test(args[0]))
        refuse(`local time (new Date(${JSON.stringify(args[0])}))`)
    }
    return new Proxy(RealDate, {
      apply: () => refuse('Date (the current time)'),
      construct(target, args, newTarget) {
        check(args)
        return Reflect.construct(target, args, newTarget)
      },
      get(target, name, receiver) {
        if (name === 'now') return () => refuse('Date (the current time)')
        if (name === 'parse') {
          return (text: string) => {
            check([text])
            return target.parse(text)
          }
        }
        return Reflect.get(target, name, receiver)
      },
    })
  }

  const strictMath = (): Math => {
    const math = Object.create(Object.getPrototypeOf(RealMath), Object.getOwnPropertyDescriptors(RealMath))
    math.random = () => refuse('Math.random')
    return math
  }

  if (host) {
    const taken: [string, PropertyDescriptor | undefined][] = []
    const guard = (name: string, strict: () => unknown) => {
      const real = Object.getOwnPropertyDescriptor(scope, name)
      if (real === undefined || !real.configurable) return
      taken.push([name, real])
      Object.defineProperty(scope, name, {
        configurable: true,
        enumerable: real.enumerable ?? false,
        get: () => (deriving.active ? strict() : real.get ? real.get.call(scope) : real.value),
        set: (value) => Object.defineProperty(scope, name, { ...real, value }),
      })
    }
    const date = strictDate()
    const math = strictMath()
    guard('Date', () => date)
    guard('Math', () => math)
    for (const name of takenNames) guard(name, () => refuse(name))
    return () => {
      for (const [name, real] of taken) Object.defineProperty(scope, name, real!)
    }
  }

  const fix = (owner: object, name: string, value: unknown) =>
    Object.defineProperty(owner, name, { value, writable: false, configurable: false, enumerable: false })
  const date = strictDate()
  fix(RealDate.prototype, 'constructor', date)
  for (const name of Object.getOwnPropertyNames(RealDate.prototype)) {
    const local = /^(get|set)(?!UTC|Time$)/.test(name) || /^to(Date|Time|Locale|String|GMT)/.test(name)
    if (local && name !== 'toGMTString')
      fix(RealDate.prototype, name, () => refuse(`local time (Date.${name})`))
  }
  fix(scope, 'Date', date)
  fix(RealMath, 'random', () => refuse('Math.random'))
  for (const kind of [Object, Array, Number, String, BigInt, Object.getPrototypeOf(Int8Array)]) {
    for (const name of Object.getOwnPropertyNames(kind.prototype)) {
      if (name.includes('ocale')) fix(kind.prototype, name, () => refuse(`locale (${kind.name}.${name})`))
    }
  }
  for (const name of takenNames) {
    Reflect.deleteProperty(scope, name)
    Object.defineProperty(scope, name, {
      configurable: false,
      enumerable: false,
      get: () => (deriving.active ? refuse(name) : undefined),
    })
  }
  // Stack traces differ between engines, so a derivation sees none; the host may read them afterwards.
  fix(Error, 'prepareStackTrace', (error: unknown, calls: unknown[]) =>
    deriving.active ? undefined : [String(error), ...calls].join('\n    at '),
  )
  return () => {}
}
