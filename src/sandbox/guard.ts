import type { Deriving } from './realm-language.ts'

/** The functions that a realm's guards use from outside it. */
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

  return () => {}
}
