import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { KeyKind, KeyPart } from '../app/table.ts'
import { HenceError } from '../failure.ts'
import {
  compareKeys,
  decodeKey,
  encodeIndexValue,
  encodeKey,
  endOfPrefix,
  type IndexValue,
  keyBytesMax,
  skipIndexValue,
} from './keys.ts'

// The worst faults: two keys with one encoding, or a key within the prefix of another. Next: an order that
// differs from that of the parts, since ranges then miss rows.

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.string({ unit: fc.constantFrom('\0', '\x01', '\x02', 'a', '\x7f', 'é', '\uffff', '😀'), maxLength: 5 }),
)
const number = fc.oneof(
  fc.double({ noNaN: true }),
  fc.integer(),
  fc.constantFrom(0, -0, 1, -1, Number.MAX_VALUE, -Number.MAX_VALUE, Number.MIN_VALUE, Infinity, -Infinity),
)
/** Two tuples of the same kinds. */
const pair = fc
  .array(fc.constantFrom<KeyKind>('string', 'number'), { minLength: 1, maxLength: 3 })
  .chain((kinds) => {
    const tuple = fc.tuple(...kinds.map((kind): fc.Arbitrary<KeyPart> => (kind === 'string' ? text : number)))
    return fc.tuple(fc.constant(kinds), tuple, tuple)
  })

function compareParts(a: readonly IndexValue[], b: readonly IndexValue[]): number {
  for (const [i, x] of a.entries()) {
    const y = b[i]!
    const order =
      typeof x === 'string' && typeof y === 'string'
        ? Buffer.compare(Buffer.from(x), Buffer.from(y))
        : x === y || typeof x !== typeof y
          ? rank(x) - rank(y)
          : Number(x) - Number(y)
    if (order !== 0) return Math.sign(order)
  }
  return 0
}

function rank(value: IndexValue): number {
  return ['boolean', 'number', 'string'].indexOf(typeof value)
}

test('the order of keys is the order of their parts', () => {
  fc.assert(
    fc.property(pair, ([, a, b]) => {
      assert.equal(compareKeys(encodeKey(a), encodeKey(b)), compareParts(a, b))
    }),
    { numRuns: 5_000 },
  )
})

test('keys are bytes and decode to their parts', () => {
  fc.assert(
    fc.property(pair, text, ([kinds, parts], before) => {
      const key = encodeKey(parts)
      assert.ok(Buffer.from(key, 'latin1').toString('latin1') === key)
      const found = decodeKey(kinds, before + key, before.length)
      assert.deepEqual(found, {
        parts: parts.map((part) => (Object.is(part, -0) ? 0 : part)),
        end: before.length + key.length,
      })
    }),
    { numRuns: 5_000 },
  )
})

test('the keys that start with some parts are exactly one range', () => {
  fc.assert(
    fc.property(pair, fc.nat(), ([, a, b], n) => {
      const count = (n % a.length) + 1
      const prefix = encodeKey(a.slice(0, count))
      const end = endOfPrefix(prefix)
      const key = encodeKey(b)
      const inRange = key >= prefix && (end === undefined || key < end)
      assert.equal(inRange, compareParts(a.slice(0, count), b.slice(0, count)) === 0)
      const own = encodeKey(a)
      assert.ok(own >= prefix && (end === undefined || own < end))
    }),
    { numRuns: 5_000 },
  )
})

test('a text that continues with a NUL is outside the prefix of the shorter text, whatever follows', () => {
  const shorter = encodeKey(['a', Number.MAX_VALUE])
  assert.notEqual(encodeKey(['a\0', 1]).slice(0, 2), encodeKey(['a']))
  assert.deepEqual(decodeKey(['string', 'number'], shorter).parts, ['a', Number.MAX_VALUE])
})

test('indexed values of all types are in order, distinct and delimited', () => {
  const value = fc.oneof(text, number, fc.boolean())
  fc.assert(
    fc.property(value, value, (a, b) => {
      const [x, y] = [encodeIndexValue(a), encodeIndexValue(b)]
      assert.equal(compareKeys(x, y), compareParts([a], [b]))
      assert.equal(skipIndexValue(x + y, 0), x.length)
      if (compareParts([a], [b]) !== 0) assert.notEqual(x, y)
      assert.equal(skipIndexValue(x + y, x.length), x.length + y.length)
    }),
    { numRuns: 5_000 },
  )
})

test('values that a key cannot hold are refused', () => {
  const invalid = (action: () => unknown) =>
    assert.throws(action, (error) => error instanceof HenceError && error.code === 'key-invalid')
  invalid(() => encodeKey([Number.NaN]))
  invalid(() => encodeKey(['\ud800']))
  invalid(() => encodeKey(['ok', true as never]))
  invalid(() => encodeKey([null as never]))
  invalid(() => encodeKey([Symbol('s') as never]))
  invalid(() => encodeKey([1n as never]))
  invalid(() => encodeIndexValue({} as never))
  invalid(() => encodeIndexValue(Number.NaN))
})

test('a key has a maximum size', () => {
  assert.equal(encodeKey(['x'.repeat(keyBytesMax - 1)]).length, keyBytesMax)
  assert.throws(
    () => encodeKey(['é'.repeat(keyBytesMax / 2)]),
    (error) => error instanceof HenceError && error.code === 'key-too-long' && error.advice === 'change',
  )
})
