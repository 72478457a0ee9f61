import { changeError } from '../failure.ts'

/** Makes JSON values of one JavaScript realm: an array of another realm is not `instanceof Array`. */
export interface Realm {
  /** Reads JSON text to a value that is frozen all the way down. */
  parseFrozen(text: string): unknown
  /**
   * Copies a value of any realm into this one, frozen all the way down. Fields that are undefined are left
   * out, -0 becomes 0, and whatever else JSON does not keep is refused.
   * @throws HenceError `not-json`, `value-too-large` (change)
   */
  seal(value: unknown): unknown
  /** About how many bytes of memory the value takes that was sealed last. */
  sealedBytes(): number
  /** Rows under their keys without the first part, as a list of this realm; values are taken as they are. */
  rows(found: readonly { readonly key: readonly unknown[]; readonly value: unknown }[]): unknown
}

/** Its source is evaluated in every realm, so it uses only `refuse`. A depth of 64 also ends a cycle. */
export function makeRealm(refuse: (path: readonly (string | number)[], why: string) => never): Realm {
  const depthMax = 64
  // Characters of text and names, and 8 for everything else. JSON escapes one as six at most, or as 3 bytes
  // of UTF-8. Four such values are less than the largest record: the correction of an outcome has so many.
  const sizeMax = 1024 * 1024
  const jsonMax = 2.5 * sizeMax
  let size = 0
  /** Thrown when a value is refused; the names on the way to it are gathered as it passes. */
  const refusal = { why: '', path: [] as (string | number)[] }

  function freezeAll(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) freezeAll(value[i])
    else for (const name in value) freezeAll((value as Record<string, unknown>)[name])
    return Object.freeze(value)
  }

  function stop(why: string): never {
    refusal.why = why
    refusal.path = []
    throw refusal
  }

  function copy(value: unknown, depth: number): unknown {
    size += 8
    switch (typeof value) {
      case 'string':
        size += value.length
        if (size > sizeMax) stop('too large')
        if (!value.isWellFormed()) stop('a string with half a surrogate pair')
        return value
      case 'boolean':
        return value
      case 'number':
        if (!Number.isFinite(value)) stop(String(value))
        return value === 0 ? 0 : value
      case 'object':
        if (value === null) return null
        if (size > sizeMax) stop('too large')
        if (depth > depthMax) stop(`deeper than ${depthMax} levels, or a cycle`)
        return Array.isArray(value) ? copyList(value, depth) : copyObject(value, depth)
      case 'undefined':
        return stop('undefined')
      default:
        return stop(`a ${typeof value}`)
    }
  }

  function copyList(value: readonly unknown[], depth: number): unknown {
    if (size + 8 * value.length > sizeMax) stop('too large')
    const items: unknown[] = new Array(value.length)
    let i = 0
    try {
      for (; i < value.length; i++) items[i] = copy(value[i], depth + 1)
    } catch (error) {
      if (error === refusal && refusal.why !== 'too large') refusal.path.unshift(i)
      throw error
    }
    return Object.freeze(items)
  }

  function copyObject(value: object, depth: number): unknown {
    // A plain object's prototype has none itself, in whatever realm it was made; that of a class does.
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      stop(`a ${prototype.constructor?.name ?? 'class'} object`)
    }
    const fields: Record<string, unknown> = {}
    const names = Object.keys(value)
    let name = ''
    try {
      for (let i = 0; i < names.length; i++) {
        name = names[i]!
        const field = (value as Record<string, unknown>)[name]
        if (field === undefined) continue
        if (name === '__proto__') stop('a field named __proto__')
        size += name.length
        if (!name.isWellFormed()) stop('a name with half a surrogate pair')
        fields[name] = copy(field, depth + 1)
      }
    } catch (error) {
      if (error === refusal && refusal.why !== 'too large') refusal.path.unshift(name)
      throw error
    }
    return Object.freeze(fields)
  }

  function seal(value: unknown): unknown {
    size = 0
    try {
      const sealed = copy(value, 1)
      if (size > sizeMax || (size > sizeMax / 6 && JSON.stringify(sealed).length > jsonMax)) stop('too large')
      return sealed
    } catch (error) {
      if (error !== refusal) throw error
      return refuse(refusal.path, refusal.why)
    }
  }

  return {
    parseFrozen: (text) => freezeAll(JSON.parse(text)),
    seal,
    sealedBytes: () => size,
    rows(found) {
      const rows: unknown[] = []
      for (const { key, value } of found) {
        const parts: unknown[] = []
        for (let i = 1; i < key.length; i++) parts.push(key[i])
        rows.push({ key: parts, value })
      }
      return rows
    },
  }
}

/** Errors for `makeRealm`, made outside: a realm's own error classes are unknown to the process. */
export function refuseNotJson(path: readonly (string | number)[], why: string): never {
  if (why === 'too large') {
    throw changeError(
      'value-too-large',
      'The value has more than 1,048,576 characters (names and texts, and 8 for each value), or more than ' +
        '2,621,440 as JSON. Keep large content elsewhere and its hash here.',
    )
  }
  const place = path.length === 0 ? 'The value' : `The value at ${path.join('.')}`
  throw changeError(
    'not-json',
    `${place} is ${why}, which JSON does not keep. Use text, finite numbers, booleans, null, lists and plain objects.`,
  )
}

/** The realm that this module runs in. */
export const mainRealm: Realm = makeRealm(refuseNotJson)
