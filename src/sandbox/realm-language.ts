/** The state of a realm while the app's code runs in it. */
export interface Deriving {
  active: boolean
  /** An error that `tx` threw and that is not the app's own fault, for example a state that cannot be read. */
  fault?: unknown
  /** A mistake that makes the derivation fail even if the app catches it or goes on: see `slipOf`. */
  slip?: unknown
  /** The bytes of buffers that a derivation or validation has made; undefined while there is none. */
  bufferBytes?: number | undefined
}

/** The parts of the process that `installLanguage` uses. */
interface LanguageHost {
  readonly deriving: Deriving
  /** By the path of an object: the members that stay. */
  readonly language: Readonly<Record<string, string>>
  /** Names whose use in a derivation gets a message that says what to use instead. */
  readonly missingNames: readonly string[]
  /** Throws HenceError `impure`. */
  readonly refuse: (what: string) => never
  /** Throws HenceError `derivation-asynchronous`. */
  readonly refusePromise: () => never
  /** Changes the body of a function as `passOnStackErrors` does. */
  readonly passOn: (body: string) => string
  /** Called before a buffer of so many bytes is made. Throws HenceError `derivation-too-large`. */
  readonly countBuffer: (bytes: number) => void
  readonly log: (level: 'log' | 'warn' | 'error', ...args: unknown[]) => void
  /** The parts of a URL, in the order of `urlNames` in the realm; undefined if it is not one. */
  readonly urlParts: (url: string, base: string | undefined) => readonly string[] | undefined
  /** Undefined for text that cannot be converted. */
  readonly base64: { decode(text: string): string | undefined; encode(text: string): string | undefined }
}

/**
 * Reduces the globals of a realm to the allow-list, replaces those that depend on the machine, and freezes
 * them, so that app code can leave nothing behind in them. The source of this function is evaluated in the
 * realm, so it uses nothing but its argument.
 * @returns freezes the global object itself, once the app's module is loaded
 */
export function installLanguage(host: LanguageHost): () => void {
  const { deriving, refuse } = host
  const scope = globalThis as unknown as Record<string, unknown>
  const { defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf } = Object
  const { ownKeys } = Reflect
  type Fun = (...args: never[]) => unknown

  const fix = (owner: object, name: PropertyKey, value: unknown) =>
    defineProperty(owner, name, { value, writable: true, configurable: true, enumerable: false })
  const named = <F extends Fun>(name: string, value: F): F => fix(value, 'name', name) && value

  /** By its path; the ways to those that no global name reaches are spelled out. */
  const objects = new Map<string, object>()
  const generator = function* () {}
  const asyncGenerator = async function* () {}
  const hidden: Record<string, object> = {
    '%TypedArray%': getPrototypeOf(Int8Array),
    '%GeneratorFunction%.prototype': getPrototypeOf(generator),
    '%AsyncFunction%.prototype': getPrototypeOf(async () => {}),
    '%AsyncGeneratorFunction%.prototype': getPrototypeOf(asyncGenerator),
    '%Generator%.prototype': getPrototypeOf(generator.prototype),
    '%AsyncGenerator%.prototype': getPrototypeOf(asyncGenerator.prototype),
    '%AsyncIterator%.prototype': getPrototypeOf(getPrototypeOf(asyncGenerator.prototype)),
    '%ArrayIterator%.prototype': getPrototypeOf([].values()),
    '%MapIterator%.prototype': getPrototypeOf(new Map().values()),
    '%SetIterator%.prototype': getPrototypeOf(new Set().values()),
    '%StringIterator%.prototype': getPrototypeOf(''[Symbol.iterator]()),
    '%RegExpStringIterator%.prototype': getPrototypeOf(''.matchAll(/x/g)),
    '%IteratorHelper%.prototype': getPrototypeOf(
      ([].values() as unknown as { map(f: Fun): object }).map(() => 0),
    ),
    '%WrappedIterator%.prototype': getPrototypeOf(
      (scope.Iterator as { from(it: object): object }).from({ next: () => 0 }),
    ),
  }
  for (const path in host.language) {
    let object: unknown = hidden[path] ?? scope
    if (object === scope && path !== 'globalThis') {
      const names = path.split('.')
      object = hidden[names[0]!] ?? scope[names[0]!]
      for (const name of names.slice(1)) object = (object as Record<string, unknown>)[name]
    }
    objects.set(path, object as object)
  }

  // Members that depend on the machine are replaced by ones that do not, or by a function that throws.
  const RealDate = Date
  const iso =
    /^(\d{4}|[+-]\d{6})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d))?)?)?$/
  /** The time that ISO 8601 text means, in milliseconds since 1970; NaN if it means none. */
  const timeOf = (text: string): number => {
    const found = iso.exec(text)
    if (found === null) {
      if (deriving.active) refuse(`local time (Date of ${JSON.stringify(text)})`)
      return Number.NaN
    }
    const { 1: year, 7: part = '', 8: zone = 'Z' } = found
    const [month, day, hour, minute, second] = [2, 3, 4, 5, 6].map((i) =>
      Number(found[i] ?? (i < 4 ? 1 : 0)),
    ) as [number, number, number, number, number]
    const date = new RealDate(0)
    date.setUTCFullYear(Number(year), month - 1, day)
    const isDay = date.getUTCMonth() === month - 1 && date.getUTCDate() === day
    const isMidnight = hour === 24 && minute === 0 && second === 0 && Number(part) === 0
    if (year === '-000000' || !isDay || minute > 59 || second > 59) return Number.NaN
    if (hour > 23 && !isMidnight) return Number.NaN
    date.setUTCHours(hour, minute, second, Number(part.padEnd(3, '0').slice(0, 3)))
    if (zone === 'Z') return date.getTime()
    const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(-2))]
    if (hours > 23 || minutes > 59) return Number.NaN
    return date.getTime() - (zone[0] === '-' ? -60_000 : 60_000) * (hours * 60 + minutes)
  }
  const getTime = RealDate.prototype.getTime
  const StrictDate = named('Date', function (this: unknown, ...args: unknown[]) {
    if (new.target === undefined || args.length === 0) return refuse('Date (the current time)')
    if (args.length > 1) return refuse('local time (new Date(year, month, …))')
    let [time] = args
    if (time instanceof RealDate) time = getTime.call(time)
    else if (typeof time === 'string') time = timeOf(time)
    else if (typeof time === 'object' && time !== null) return refuse('local time (Date of an object)')
    return Reflect.construct(RealDate, [Number(time)], new.target)
  })
  StrictDate.prototype = RealDate.prototype
  fix(StrictDate, 'UTC', RealDate.UTC)
  fix(StrictDate, 'now', () => refuse('Date (the current time)'))
  fix(StrictDate, 'parse', (text: unknown) => timeOf(String(text)))
  fix(RealDate.prototype, 'constructor', StrictDate)
  for (const name of ownKeys(RealDate.prototype)) {
    const isLocal = /^(get|set)(?!UTC|Time$)|^to(String|Date|Time|Locale)/.test(String(name))
    if (isLocal) fix(RealDate.prototype, name, () => refuse(`local time (Date.${String(name)})`))
  }
  fix(Math, 'random', () => refuse('Math.random'))
  for (const kind of [Object, Array, Number, String, BigInt, getPrototypeOf(Int8Array)]) {
    for (const name of ownKeys(kind.prototype)) {
      if (!String(name).includes('ocale')) continue
      fix(kind.prototype, name, () => refuse(`locale (${kind.name}.prototype.${String(name)})`))
    }
  }
  // Code that is made of text is strict, as a module is.
  const RealFunction = Function
  const StrictFunction = named('Function', (...args: unknown[]) => {
    const body = `'use strict';${args.length === 0 ? '' : args.at(-1)}`
    if (/(?<!\.)\b(import\s*\(|async\s*(\*|\(|function\b|[\w$]+\s*(\(|=>)))/.test(body)) host.refusePromise()
    return Reflect.construct(RealFunction, [...args.slice(0, -1), host.passOn(body)])
  })
  const StrictFunctionClass = new Proxy(RealFunction, {
    apply: (_, _this, args) => StrictFunction(...args),
    construct: (_, args) => StrictFunction(...args),
  })
  fix(RealFunction.prototype, 'constructor', StrictFunctionClass)
  for (const kind of ['Generator', 'Async', 'AsyncGenerator']) {
    fix(objects.get(`%${kind}Function%.prototype`)!, 'constructor', () => refuse(`${kind}Function`))
  }
  // Async functions are compiled to ones that use this class, so none makes a promise.
  const NoPromise = named('Promise', function (this: unknown) {
    return host.refusePromise()
  })
  for (const name of ['all', 'allSettled', 'any', 'race', 'reject', 'resolve', 'try', 'withResolvers']) {
    fix(NoPromise, name, () => host.refusePromise())
  }
  for (const name of ['then', 'catch', 'finally']) fix(NoPromise.prototype, name, () => host.refusePromise())
  // Stack traces differ between engines. Without `stackTraceLimit`, which is not on the list, there are none.
  fix(Error, 'captureStackTrace', () => {})

  const replaced: Record<string, unknown> = {
    Date: StrictDate,
    Function: StrictFunctionClass,
    Promise: NoPromise,
  }
  // The memory of buffers is outside the heap, so no limit of the heap holds for it. Their prototypes keep
  // their constructors: others would make typed arrays slow in the whole process.
  const { apply, construct } = Reflect
  const counted = (name: string, bytesOf: (given: unknown) => number) => {
    const Real = scope[name] as Fun
    replaced[name] = new Proxy(Real, {
      construct(_, args, newTarget) {
        host.countBuffer(bytesOf(args[0]))
        // No further options, which could make a buffer resizable.
        return construct(Real, name === 'ArrayBuffer' ? args.slice(0, 1) : args, newTarget)
      },
    })
  }
  const RealBuffer = ArrayBuffer
  counted('ArrayBuffer', Number)
  for (const name in host.language) {
    const { BYTES_PER_ELEMENT: bytes } = (scope[name] ?? {}) as { BYTES_PER_ELEMENT?: number }
    if (bytes === undefined) continue
    counted(name, (given) => {
      if (typeof given !== 'object' || given === null) return bytes * Number(given)
      return given instanceof RealBuffer ? 0 : bytes * Number((given as { length?: number }).length)
    })
  }
  for (const path of ['ArrayBuffer.prototype', '%TypedArray%.prototype']) {
    const owner = objects.get(path) as Record<string, Fun>
    for (const name of ['filter', 'map', 'slice', 'toReversed', 'toSorted', 'with']) {
      const copy = owner[name]
      if (copy === undefined) continue
      const counting = function (this: ArrayBuffer, ...args: never[]) {
        host.countBuffer(this.byteLength)
        return apply(copy, this, args)
      }
      fix(owner, name, named(name, counting as Fun))
    }
  }
  objects.set('Date', StrictDate)
  objects.set('Promise', NoPromise)
  objects.set('Promise.prototype', NoPromise.prototype)
  for (const name in replaced) fix(scope, name, replaced[name])

  // Members that are not on the list go. Well-known symbols are listed with `Symbol`.
  const symbols = new Set<PropertyKey>()
  for (const name of host.language.Symbol!.split(' '))
    symbols.add((Symbol as never as Record<string, symbol>)[name]!)
  const structural = ['constructor', 'length', 'name', 'prototype']
  for (const [path, object] of objects) {
    const members = host.language[path]
    if (members === undefined || path === 'RegExp.prototype') continue
    const kept = new Set<PropertyKey>([...members.split(' '), ...symbols])
    if (path !== 'globalThis') for (const name of structural) kept.add(name)
    for (const name of ownKeys(object))
      if (!kept.has(name)) delete (object as Record<PropertyKey, unknown>)[name]
  }
  for (const name of host.missingNames) {
    defineProperty(scope, name, {
      configurable: false,
      enumerable: false,
      get: () => (deriving.active ? refuse(name) : undefined),
    })
  }

  // A few names that libraries use while they validate, as far as they depend on nothing but their arguments.
  const [log, warn, error] = (['log', 'warn', 'error'] as const).map(
    (level) =>
      (...args: unknown[]) =>
        host.log(level, ...args),
  )
  const console = { log, info: log, debug: log, warn, error }
  const urlNames = 'href origin protocol username password host hostname port pathname search hash'
  const isAscii = /^[\0-\x7f]*$/
  const partsOf = (...args: readonly unknown[]): readonly string[] | undefined => {
    const [url, base] = args.map((arg) => (arg === undefined ? undefined : String(arg)))
    // How international host names are written depends on the engine's version of Unicode.
    if (deriving.active && !isAscii.test(`${url}${base}`)) refuse('URL (of text that is not ASCII)')
    return host.urlParts(String(url), base)
  }
  class URL {
    readonly #parts: readonly string[]
    constructor(...args: unknown[]) {
      const parts = partsOf(...args.slice(0, 2))
      if (parts === undefined) throw new TypeError('Invalid URL')
      this.#parts = parts
    }
    static canParse(...args: unknown[]): boolean {
      return partsOf(...args.slice(0, 2)) !== undefined
    }
    part(i: number): string {
      return this.#parts[i]!
    }
    toString(): string {
      return this.#parts[0]!
    }
    toJSON(): string {
      return this.#parts[0]!
    }
  }
  const { part } = URL.prototype
  for (const [i, name] of urlNames.split(' ').entries()) {
    const get = function (this: URL) {
      return part.call(this, i)
    }
    defineProperty(URL.prototype, name, { configurable: true, enumerable: true, get })
  }
  delete (URL.prototype as Partial<URL>).part
  const converted = (text: string | undefined): string => {
    if (text === undefined) throw new RangeError('The text cannot be converted.')
    return text
  }
  const atob = (text: unknown) => converted(host.base64.decode(String(text)))
  const btoa = (text: unknown) => converted(host.base64.encode(String(text)))
  for (const [name, value] of Object.entries({ console, URL, atob, btoa })) fix(scope, name, value)

  // Frozen: but a property that an object inherits from a frozen one could not be assigned to on that object,
  // which libraries do. So it becomes an accessor that defines the object's own property. Not so where the
  // engine has faster ways as long as nobody has touched a property.
  const assignable = (owner: object, name: PropertyKey, value: unknown) => {
    const get = () => value
    const set = function (this: object, own: unknown) {
      if (this === owner || typeof this !== 'object' || this === null) {
        if (typeof this !== 'function' || this === owner) throw new TypeError(`${String(name)} is read-only`)
      }
      defineProperty(this, name, { value: own, writable: true, enumerable: true, configurable: true })
    }
    defineProperty(owner, name, { get, set, enumerable: false, configurable: false })
  }
  const done = new Set<object>([scope, RegExp.prototype])
  const harden = (value: unknown): void => {
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || done.has(value))
      return
    done.add(value)
    for (const name of ownKeys(value)) {
      const property = getOwnPropertyDescriptor(value, name)!
      harden(property.value)
      harden(property.get)
      harden(property.set)
    }
    harden(getPrototypeOf(value))
    freeze(value)
  }
  for (const [path, object] of objects) {
    if (!/^(Object|Function|\w*Error)\.prototype$/.test(path)) continue
    for (const name of ownKeys(object)) {
      const property = getOwnPropertyDescriptor(object, name)!
      if (property.configurable && property.writable) assignable(object, name, property.value)
    }
  }
  // The engine matches slowly once RegExp.prototype has changed in any way, so it alone is not frozen.
  for (const name of ownKeys(RegExp.prototype)) {
    const { value, get } = getOwnPropertyDescriptor(RegExp.prototype, name)!
    harden(value ?? get)
  }
  for (const object of objects.values()) harden(object)
  harden(getPrototypeOf(scope))
  for (const name of ownKeys(scope)) harden(getOwnPropertyDescriptor(scope, name)!.value)
  return () => freeze(scope)
}
