import { HenceError } from '../failure.ts'

/**
 * Makes JSON values that belong to one JavaScript realm. A value that a derivation gets must have the
 * prototypes of the realm that it runs in: an array of another realm is not `instanceof Array`, and what
 * that does depends on how the app is run.
 */
export interface Realm {
  /** Reads JSON text to a value that is frozen all the way down. */
  parse(text: string): unknown
  /**
   * Copies a value of any realm into this one, frozen all the way down. Fields that are undefined are left out, -0
   * becomes 0, and whatever else JSON does not keep is refused.
   * @throws HenceError `not-json` (change), which names the place within the value; `value-too-large` (change)
   */
  seal(value: unknown): unknown
}

/**
 * The source of this function is evaluated in every realm, so it uses nothing from outside but `refuse`.
 * A depth of 64 is what the server takes too; it also ends a cycle.
 */
export function makeRealm(refuse: (path: readonly (string | number)[], why: string) => never): Realm {
  const depthMax = 64
  // Characters of text and names, and 8 for everything else: so much is less than the largest record,
  // whatever the values are and however JSON escapes them.
  const sizeMax = 1024 * 1024
  let size = 0
  const path: (string | number)[] = []

  function freezeAll(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) freezeAll(value[i])
    else for (const name in value) freezeAll((value as Record<string, unknown>)[name])
    return Object.freeze(value)
  }

  function grow(by: number): void {
    size += by + 8
    if (size > sizeMax) refuse([], 'too large')
  }

  function copy(value: unknown): unknown {
    switch (typeof value) {
      case 'string':
        grow(value.length)
        if (!value.isWellFormed()) refuse(path, 'a string with half a surrogate pair')
        return value
      case 'boolean':
        grow(0)
        return value
      case 'number':
        grow(0)
        if (!Number.isFinite(value)) refuse(path, String(value))
        return value === 0 ? 0 : value
      case 'object':
        grow(0)
        return value === null ? null : copyObject(value)
      case 'undefined':
        return refuse(path, 'undefined')
      default:
        return refuse(path, `a ${typeof value}`)
    }
  }

  function copyObject(value: object): unknown {
    if (path.length >= depthMax) refuse(path, `deeper than ${depthMax} levels, or a cycle`)
    if (Array.isArray(value)) {
      const items: unknown[] = new Array(value.length)
      for (let i = 0; i < value.length; i++) {
        path.push(i)
        items[i] = copy(value[i])
        path.pop()
      }
      return Object.freeze(items)
    }
    // A plain object's prototype has none itself, in whatever realm it was made; that of a class does.
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      refuse(path, `a ${prototype.constructor?.name ?? 'class'} object`)
    }
    const fields: Record<string, unknown> = {}
    for (const name of Object.keys(value)) {
      const field = (value as Record<string, unknown>)[name]
      if (field === undefined) continue
      path.push(name)
      if (name === '__proto__') refuse(path, 'a field named __proto__')
      size += name.length
      if (!name.isWellFormed()) refuse(path, 'a name with half a surrogate pair')
      fields[name] = copy(field)
      path.pop()
    }
    return Object.freeze(fields)
  }

  return {
    parse: (text) => freezeAll(JSON.parse(text)),
    seal(value) {
      path.length = 0
      size = 0
      return copy(value)
    },
  }
}

/** What `makeRealm` is given: a realm's own errors would be unknown outside it. */
export function refuseNotJson(path: readonly (string | number)[], why: string): never {
  if (why === 'too large') {
    throw new HenceError(
      'value-too-large',
      'change',
      'The value has more than 1,048,576 characters (names and texts, and 8 for each value). Keep large content ' +
        'elsewhere and its hash here.',
    )
  }
  const place = path.length === 0 ? 'The value' : `The value at ${path.join('.')}`
  throw new HenceError(
    'not-json',
    'change',
    `${place} is ${why}, which JSON does not keep. Use text, finite numbers, booleans, null, lists and plain objects.`,
  )
}

/** The realm that this module runs in. */
export const mainRealm: Realm = makeRealm(refuseNotJson)
