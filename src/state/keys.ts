import type { KeyKind, KeyPart } from '../app/table.ts'
import { changeError } from '../failure.ts'

/**
 * Keys are latin1 strings, one character per byte. Their order, in JavaScript as in LMDB, is the order of
 * their parts. The encoding is prefix-free, so all keys that start with some parts form one range.
 *
 *   text     its UTF-8 bytes, with 00 written as 01 01 and 01 as 01 02, then 00
 *   number   the IEEE-754 double, 8 bytes big-endian, with the sign bit flipped (all bits of a negative number)
 *
 * The kinds of key parts come from the table's definition and are not stored. No definition states the kinds
 * of indexed values, so each has a tag:
 *
 *   01 false   02 true   03 number   04 text
 *
 * (The usual escape, 00 FF for a 00 inside text, is ambiguous without tags: a large number starts with FF.)
 */

export type IndexValue = string | number | boolean

/** The maximum length of a key in bytes; LMDB's is 1,978. */
export const keyBytesMax = 1_900

/** Encodes the parts of a key. */
export function encodeKey(parts: readonly KeyPart[]): string {
  let key = ''
  for (let i = 0; i < parts.length; i++) key += encodePart(parts[i]!)
  return checkKeyLength(key)
}

/** Encodes one part, without checking the length of the key. */
export function encodePart(part: KeyPart): string {
  if (typeof part === 'string') return encodeText(part)
  if (typeof part === 'number') return encodeNumber(part)
  throw changeError(
    'key-invalid',
    `A part of a key must be a string or a number, not of type ${typeof part}.`,
  )
}

export function checkKeyLength(key: string): string {
  if (key.length <= keyBytesMax) return key
  throw changeError(
    'key-too-long',
    `A key of ${key.length} bytes is too long: all its parts together may have ${keyBytesMax} bytes. ` +
      'Use shorter parts, or a hash of the long one.',
  )
}

/** Decodes parts of the given kinds, starting at a position of a key; `end` is the position after them. */
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

/** Encodes an indexed value: false before true before numbers before text. */
export function encodeIndexValue(value: IndexValue): string {
  if (value === false) return '\x01'
  if (value === true) return '\x02'
  if (typeof value === 'number') return `\x03${encodeNumber(value)}`
  if (typeof value === 'string') return `\x04${encodeText(value)}`
  throw changeError(
    'key-invalid',
    'An indexed value must be a string, a number or a boolean, not ' +
      `${Array.isArray(value) ? 'a list' : `of type ${typeof value}`}.`,
  )
}

/** The position after the indexed value that starts at `at`. */
export function skipIndexValue(key: string, at: number): number {
  const tag = key.charCodeAt(at)
  if (tag < 3) return at + 1
  if (tag === 3) return at + 9
  return key.indexOf('\0', at) + 1
}

/** The exclusive end of the range of keys that start with `prefix`; undefined if the range is unbounded. */
export function endOfPrefix(prefix: string): string | undefined {
  let last = prefix.length - 1
  while (last >= 0 && prefix.charCodeAt(last) === 0xff) last--
  if (last < 0) return undefined
  return prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1)
}

/** The last texts that were encoded: the key and the identity of a request, for example, are part of many keys. */
const latest = { text: '', encoded: '\0', unusual: '', encodedUnusual: '\0' }

function encodeText(text: string): string {
  if (text === latest.text) return latest.encoded
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f || code < 2) return encodeUnusualText(text)
  }
  latest.text = text
  latest.encoded = `${text}\0`
  return latest.encoded
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII.
const ascii = /^[\x00-\x7f]*$/

function encodeUnusualText(text: string): string {
  if (text === latest.unusual) return latest.encodedUnusual
  if (!text.isWellFormed()) {
    throw changeError(
      'key-invalid',
      `A part of a key is not valid Unicode, it has a lone surrogate: ${JSON.stringify(text)}.`,
    )
  }
  const bytes = ascii.test(text) ? text : Buffer.from(text).toString('latin1')
  latest.encodedUnusual = `${bytes.replaceAll('\x01', '\x01\x02').replaceAll('\0', '\x01\x01')}\0`
  latest.unusual = text
  return latest.encodedUnusual
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the bytes of a key that are not plain ASCII text.
const unusual = /[\x01\x80-\xff]/

function decodeText(encoded: string): string {
  if (!unusual.test(encoded)) return encoded
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the two bytes that are written otherwise.
  const bytes = encoded.replace(/\x01[\x01\x02]/g, (pair) => (pair === '\x01\x01' ? '\0' : '\x01'))
  return Buffer.from(bytes, 'latin1').toString()
}

const bits = new DataView(new ArrayBuffer(8))

function encodeNumber(number: number): string {
  if (Number.isNaN(number)) throw changeError('key-invalid', 'A part of a key is NaN, which has no order.')
  // Adding 0 turns -0 into 0: they are equal, so they must be one key.
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

/** Compares keys by their bytes. */
export const compareKeys = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

export function checkPartitionKey(key: unknown, of: string): asserts key is string {
  if (typeof key !== 'string') {
    throw changeError('key-invalid', `The partition key of ${of} must be a string, not ${typeof key}.`)
  }
  encodeKey([key])
}
