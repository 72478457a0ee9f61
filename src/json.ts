import { isUtf8 } from 'node:buffer'
import { changeError, type HenceError, shown } from './failure.ts'

/** How deep lists and objects may be nested; the engine has the same limit. */
export const depthMax = 64

/**
 * Reads JSON (RFC 8259) that every reader understands alike, because the bytes are kept for years and read by
 * many. Refuses, though `JSON.parse` accepts them: a name twice in an object, `__proto__`, numbers beyond
 * 2^53 − 1 that a double would round, in any form, numbers beyond the range of a double, numbers that it
 * would round to a whole number or 0, lone surrogates, more than 64 levels.
 *
 * `JSON.parse` runs first, so the scan can rely on the grammar.
 */
export function parseStrict(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(`it does not follow the grammar: ${(error as Error).message}`)
  }
  scan(text)
  return value
}

export function textOf(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw invalid('its bytes are not UTF-8')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const minus = 0x2d
const colon = 0x3a

function scan(text: string): void {
  /** The names seen so far in each open object; undefined for a list. */
  const open: (Names | undefined)[] = []
  // A lone surrogate needs one, since the text is UTF-8.
  const hasEscapes = text.includes('\\')
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) {
      const end = endOfString(text, at)
      const isName = nextCode(text, end + 1) === colon
      if (isName || hasEscapes) {
        const content = contentOf(text, at, end)
        if (isName) addName(open[open.length - 1]!, content, end)
      }
      at = end
    } else if (code === minus || (code >= 0x30 && code <= 0x39)) {
      const end = endOfNumber(text, at)
      checkNumber(text, at, end)
      at = end - 1
    } else if (code === 0x7b || code === 0x5b) {
      if (open.length === depthMax) throw invalid(`it is deeper than ${depthMax} levels`, at)
      open.push(code === 0x7b ? { few: [], many: undefined } : undefined)
    } else if (code === 0x7d || code === 0x5d) {
      open.pop()
    }
  }
}

/** A short list is faster than a set. */
interface Names {
  readonly few: string[]
  many: Set<string> | undefined
}
const fewMax = 12

function addName(names: Names, name: string, at: number): void {
  const { few } = names
  if (names.many ? names.many.has(name) : few.includes(name)) {
    throw invalid(`the name ${JSON.stringify(shown(name))} occurs twice in one object`, at)
  }
  if (name === '__proto__') throw invalid('an object has the name __proto__', at)
  if (names.many) names.many.add(name)
  else if (few.push(name) > fewMax) names.many = new Set(few)
}

/** The position of the quote that ends the string which begins at `from`. */
function endOfString(text: string, from: number): number {
  let at = from + 1
  for (;;) {
    const code = text.charCodeAt(at)
    if (code === quote) return at
    at += code === backslash ? 2 : 1
  }
}

function contentOf(text: string, from: number, end: number): string {
  const raw = text.slice(from + 1, end)
  if (!raw.includes('\\')) return raw
  const content = JSON.parse(text.slice(from, end + 1)) as string
  if (!content.isWellFormed()) throw invalid('a string has a lone surrogate', from)
  return content
}

function nextCode(text: string, from: number): number {
  let at = from
  while (text.charCodeAt(at) <= 0x20) at++
  return text.charCodeAt(at)
}

function endOfNumber(text: string, from: number): number {
  let at = from + 1
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === comma || code === 0x5d || code === 0x7d || code <= 0x20) break
  }
  return at
}

function checkNumber(text: string, from: number, end: number): void {
  // Fifteen digits are always safe; only an exponent makes a short number large.
  const token = text.slice(from, end)
  if (token.length <= 15 && !/[eE]/.test(token)) return
  const number = Number(token)
  if (!Number.isFinite(number)) throw invalid(`the number ${shown(token)} is too large for a double`, from)
  if (number === 0 && digitsOf(token) !== '') {
    throw invalid(`the number ${shown(token)} is too small for a double`, from)
  }
  if (Math.abs(number) <= Number.MAX_SAFE_INTEGER) {
    if (!Number.isInteger(number) || isWhole(token)) return
    throw invalid(`the number ${shown(token)} is a whole number only after rounding; send it as text`, from)
  }
  // A double this large is whole, however it is written. From 1e21 on JSON.stringify writes an exponent.
  if (Math.abs(number) < 1e21 || !/[eE]/.test(token) || digitsOf(token) !== digitsOf(String(number))) {
    throw invalid(
      `the number ${shown(token)} is beyond 2^53 − 1, where doubles have gaps; send it as text`,
      from,
    )
  }
}

function isWhole(token: string): boolean {
  const [mantissa = '', exponent = '0'] = token.split(/[eE]/)
  const [whole = '', fraction = ''] = mantissa.split('.')
  const digits = (whole + fraction).replace(/0+$/, '')
  // How many digits the last one that is not 0 stands behind the point.
  return digits.length - whole.length <= Number(exponent) || /^-?0*$/.test(digits)
}

/** The significant digits of a number. */
function digitsOf(token: string): string {
  return token
    .replace(/[eE].*$/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+|0+$/g, '')
}

function invalid(why: string, at?: number): HenceError {
  const position = at === undefined ? '' : ` (at character ${at})`
  return changeError('json-invalid', `The JSON is refused: ${why}${position}.`)
}
