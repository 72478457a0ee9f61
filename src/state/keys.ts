import type { KeyKind, KeyPart } from '../app/table.ts'
import { HenceError } from '../failure.ts'

/**
 * Keys are latin1 strings, one character a byte, whose order (of JavaScript as of LMDB) is the order of the
 * parts they are made of. Each part says itself where it ends, and no encoded part begins with another one,
 * so the keys that begin with some parts are one range.
 *
 *   text     its UTF-8 bytes, 00 written as 01 01 and 01 as 01 02, then 00
 *   number   the 8 bytes of the IEEE-754 double, big-endian: the sign bit flipped, of a negative one all bits
 *
 * The kinds of the parts are known from the table's definition and not written. Indexed values are of kinds
 * that nobody states, so each has a tag before it:
 *
 *   01 false   02 true   03 number   04 text
 *
 * (Text could end in 00 with a 00 inside written as 00 FF, as elsewhere. Without tags that is ambiguous: the
 * first byte of a large number is FF.)
 */

/** What an index can hold. */
export type IndexValue = string | number | boolean

/** The longest key, in bytes; LMDB takes 1,978. */
export const keyBytesMax = 1_900

/**
 * Encodes the parts of a key.
 * @throws HenceError `key-invalid`, `key-too-long` (change)
 */
export function encodeKey(parts: readonly KeyPart[]): string {
  let key = ''
  for (let i = 0; i < parts.length; i++) key += encodePart(parts[i]!)
  return checkKeyLength(key)
}

/**
 * Encodes one part, without a look at the length of the whole.
 * @throws HenceError `key-invalid` (change)
 */
export function encodePart(part: KeyPart): string {
  if (typeof part === 'string') return encodeText(part)
  if (typeof part === 'number') return encodeNumber(part)
  throw new HenceError(
    'key-invalid',
    'change',
    `A part of a key must be text or a number, not of type ${typeof part}.`,
  )
}

/** @throws HenceError `key-too-long` (change) */
export function checkKeyLength(key: string): string {
  if (key.length <= keyBytesMax) return key
  throw new HenceError(
    'key-too-long',
    'change',
    `A key of ${key.length} bytes is too long: all its parts together may have ${keyBytesMax}. ` +
      'Use shorter parts, or a hash of the long one.',
  )
}

/** Decodes parts of the given kinds, from a position in a key on; `end` is where the next one would begin. */
export function decodeKey(kinds: readonly KeyKind[], key: string, at = 0): { parts: KeyPart[]; end: number } {
  const parts: KeyPart[] = []
  let end = at
  for (const kind of kinds) {
    if (kind === 'number') {
      parts.push(decodeNumber(key, end))
      end += 8
    } else {
      const stop = key.indexOf('\0', end)
      parts.push(decodeText(key.slice(end, stop)))
      end = stop + 1
    }
  }
  return { parts, end }
}

/**
 * Encodes an indexed value: false before true before numbers before text.
 * @throws HenceError `key-invalid` (change)
 */
export function encodeIndexValue(value: IndexValue): string {
  if (value === false) return '\x01'
  if (value === true) return '\x02'
  if (typeof value === 'number') return `\x03${encodeNumber(value)}`
  if (typeof value === 'string') return `\x04${encodeText(value)}`
  throw new HenceError(
    'key-invalid',
    'change',
    `An indexed value must be text, a number or a boolean, not ${Array.isArray(value) ? 'a list' : `of type ${typeof value}`}.`,
  )
}

/** The position after the indexed value that begins at a position. */
export function skipIndexValue(key: string, at: number): number {
  const tag = key.charCodeAt(at)
  if (tag < 3) return at + 1
  if (tag === 3) return at + 9
  return key.indexOf('\0', at) + 1
}

/** The end (not included) of the range of keys that begin with some parts; undefined when nothing ends it. */
export function endOfPrefix(prefix: string): string | undefined {
  let last = prefix.length - 1
  while (last >= 0 && prefix.charCodeAt(last) === 0xff) last--
  if (last < 0) return undefined
  return prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1)
}

function encodeText(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f || code < 2) return encodeUnusualText(text)
  }
  return `${text}\0`
}

function encodeUnusualText(text: string): string {
  if (!text.isWellFormed()) {
    throw new HenceError(
      'key-invalid',
      'change',
      `A part of a key is not valid Unicode, it has half of a surrogate pair: ${JSON.stringify(text)}.`,
    )
  }
  const bytes = Buffer.from(text).toString('latin1')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the two bytes that are written otherwise.
  return `${bytes.replace(/[\x00\x01]/g, (byte) => (byte === '\0' ? '\x01\x01' : '\x01\x02'))}\0`
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: bytes that are not plain ASCII text in a key.
const unusual = /[\x01\x80-\xff]/

function decodeText(encoded: string): string {
  if (!unusual.test(encoded)) return encoded
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the two bytes that are written otherwise.
  const bytes = encoded.replace(/\x01[\x01\x02]/g, (pair) => (pair === '\x01\x01' ? '\0' : '\x01'))
  return Buffer.from(bytes, 'latin1').toString()
}

const bits = new DataView(new ArrayBuffer(8))

function encodeNumber(number: number): string {
  if (Number.isNaN(number)) {
    throw new HenceError('key-invalid', 'change', 'A part of a key is NaN, which has no place in any order.')
  }
  // Adding 0 makes 0 of -0: they are equal, so they must be one key.
  bits.setFloat64(0, number + 0)
  let high = bits.getUint32(0)
  let low = bits.getUint32(4)
  if (high >= 0x80000000) {
    high = ~high
    low = ~low
  } else {
    high ^= 0x80000000
  }
  return String.fromCharCode(
    (high >>> 24) & 0xff,
    (high >>> 16) & 0xff,
    (high >>> 8) & 0xff,
    high & 0xff,
    (low >>> 24) & 0xff,
    (low >>> 16) & 0xff,
    (low >>> 8) & 0xff,
    low & 0xff,
  )
}

function decodeNumber(key: string, at: number): number {
  let high = decode32(key, at)
  let low = decode32(key, at + 4)
  if (high < 0) {
    high ^= 0x80000000
  } else {
    high = ~high
    low = ~low
  }
  bits.setInt32(0, high)
  bits.setInt32(4, low)
  return bits.getFloat64(0)
}

function decode32(key: string, at: number): number {
  return (
    (key.charCodeAt(at) << 24) |
    (key.charCodeAt(at + 1) << 16) |
    (key.charCodeAt(at + 2) << 8) |
    key.charCodeAt(at + 3)
  )
}

/** The order of keys: that of their bytes. */
export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** @throws HenceError `key-invalid`, `key-too-long` (change) */
export function checkPartitionKey(key: unknown, of: string): asserts key is string {
  if (typeof key !== 'string') {
    throw new HenceError(
      'key-invalid',
      'change',
      `The partition key of ${of} must be text, not ${typeof key}.`,
    )
  }
  encodeKey([key])
}
