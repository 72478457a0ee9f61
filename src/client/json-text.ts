import { changeError } from '../failure.ts'

/** The JSON text of an input. A value that JSON would change is refused: a reload must not change it. */
export function jsonText(type: string, input: unknown): string {
  const fail = (path: readonly (string | number)[], what: string): never => {
    throw changeError(
      'input-not-json',
      `The input of "${type}" is not JSON: ${path.length === 0 ? 'it' : path.join('.')} is ${what}.`,
    )
  }
  const check = (value: unknown, path: readonly (string | number)[]): void => {
    if (path.length > depthMax) fail([], `nested more than ${depthMax} deep, or within itself`)
    if (value === null || typeof value === 'boolean') return
    if (typeof value === 'string') {
      if (!value.isWellFormed()) fail(path, 'text with half of a surrogate pair')
    } else if (typeof value === 'number') {
      if (!Number.isFinite(value)) fail(path, String(value))
    } else if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) check(value[i], [...path, i])
    } else if (typeof value === 'object') {
      const prototype = Object.getPrototypeOf(value)
      // An object of another realm, for example a frame, has that realm's prototype at the end of its chain.
      if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
        fail(path, `an object of class ${value.constructor.name}`)
      }
      // JSON leaves out undefined fields.
      for (const [name, field] of Object.entries(value)) {
        if (field !== undefined) check(field, [...path, name])
      }
    } else {
      fail(path, value === undefined ? 'undefined' : `a ${typeof value}`)
    }
  }
  check(input, [])
  return JSON.stringify(input)
}

/** The server's limit. */
const depthMax = 64
