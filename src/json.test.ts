import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HenceError } from './failure.ts'
import { parseStrict, textOf } from './json.ts'

const refused = (text: string, why: RegExp) =>
  assert.throws(
    () => parseStrict(text),
    (error) => {
      assert.ok(error instanceof HenceError)
      assert.equal(error.code, 'json-invalid')
      assert.match(error.message, why)
      return true
    },
    text.slice(0, 80),
  )

test('refuses what JSON.parse accepts', () => {
  const hostile: readonly [text: string, why: RegExp][] = [
    ['{"a":1,"a":1}', /"a" occurs twice/],
    ['{"a":1,"b":2,"\\u0061":3}', /"a" occurs twice/],
    ['[{"x":{"y":1 , "y" : 2}}]', /"y" occurs twice/],
    ['{"":1,"":2}', /"" occurs twice/],
    [`{${Array.from({ length: 40 }, (_, i) => `"n${i}":${i}`).join()},"n3":0}`, /"n3" occurs twice/],
    ['{"__proto__":{"a":1}}', /__proto__/],
    ['{"\\u005f_proto__":1}', /__proto__/],
    ['9007199254740992', /beyond 2\^53/],
    ['[-9007199254740993]', /beyond 2\^53/],
    ['{"a":123456789012345678901234567890}', /beyond 2\^53/],
    ['1e999', /too large for a double/],
    ['[-1E+400]', /too large for a double/],
    ['"\\ud800"', /surrogate/],
    ['{"\\udc00x":1}', /surrogate/],
    ['"\\udc00\\ud800"', /surrogate/],
    ['['.repeat(65) + ']'.repeat(65), /deeper than 64/],
    [`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`, /deeper than 64/],
    ['['.repeat(500_000) + ']'.repeat(500_000), /deeper than 64/],
  ]
  for (const [text, why] of hostile) {
    JSON.parse(text)
    refused(text, why)
  }
})

test('refuses numbers that a double would round, in any form', () => {
  for (const number of [
    '9007199254740993',
    '9007199254740993.0',
    '9007199254740993e0',
    '9.007199254740993e15',
    '90071992547409930e-1',
    '9007199254740992.0',
    '-9007199254740993.0',
    '9007199254740993.5',
    '1e16',
    '1.00000000000000001e21',
    '1000000000000000000000',
  ]) {
    refused(`{"cents":${number}}`, /2\^53/)
  }
})

test('refuses numbers that are whole, or 0, only because a double rounds them', () => {
  for (const number of [
    '9007199254740991.4',
    '-9007199254740990.6',
    '4503599627370497.1',
    '1.00000000000000000001',
    '0.99999999999999999999',
    '1000000000000000000001e-20',
  ]) {
    refused(`[${number}]`, /whole number only after rounding/)
  }
  for (const number of ['1e-400', '-1E-400', '0.001e-400', '1e-99999999999999999999']) {
    refused(`[${number}]`, /too small for a double/)
  }
})

test('accepts every number that JSON.stringify writes', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
      fc.pre(Math.abs(number) <= Number.MAX_SAFE_INTEGER || Math.abs(number) >= 1e21)
      assert.equal(parseStrict(JSON.stringify(number)), number + 0)
    }),
    { numRuns: 20_000 },
  )
})

test('refuses what JSON.parse refuses', () => {
  const broken = [
    '',
    ' ',
    '{',
    '{"a":1}x',
    '1 2',
    '[1,]',
    '{"a":1,}',
    "{'a':1}",
    'NaN',
    '01',
    '+1',
    '.5',
    '1.',
    '"\t"',
    '"\\x"',
    'undefined',
    '\ufeff{}',
    '{a:1}',
    '[1',
    '"',
    '// c\n1',
  ]
  for (const text of broken) refused(text, /grammar/)
})

test('accepts values up to each limit', () => {
  for (const text of [
    '9007199254740991',
    '-9007199254740991',
    '1e300',
    '1e+21',
    '9007199254740991.0',
    '9007199254740991e0',
    '0.1',
    '123456789012345.25',
    '2251799813685249.5',
    '0.1000000000000000055511151231257827',
    '1.00000000000000000000',
    '12.5e1',
    '120000000000000000000e-19',
    '5e-324',
    '0e-400',
    '0.0000000000000000000e400',
    '-0',
    '{"a":{"a":1}}',
  ]) {
    assert.deepEqual(parseStrict(text), JSON.parse(text))
  }
  const deep = '['.repeat(64) + ']'.repeat(64)
  assert.deepEqual(parseStrict(deep), JSON.parse(deep))
})

test('bytes that are not UTF-8 are refused', () => {
  for (const bytes of [
    [0x22, 0xff, 0x22],
    [0x22, 0xed, 0xa0, 0x80, 0x22],
    [0x22, 0xc0, 0xaf, 0x22],
    [0xe2, 0x82],
  ]) {
    assert.throws(() => textOf(Uint8Array.from(bytes)), { code: 'json-invalid' })
  }
  assert.equal(textOf(Buffer.from('"é😀"')), '"é😀"')
})

const safe = fc.jsonValue({ maxDepth: 6 }).filter((value) => !JSON.stringify(value).includes('__proto__'))

test('reads what JSON.stringify writes, with any space between', () => {
  fc.assert(
    fc.property(safe, fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      const text = JSON.stringify(value, undefined, space)
      const number = (each: unknown): boolean =>
        typeof each === 'number'
          ? !/^-?\d+$/.test(JSON.stringify(each)) || Number.isSafeInteger(each)
          : typeof each !== 'object' || each === null || Object.values(each).every(number)
      fc.pre(number(value))
      assert.deepEqual(parseStrict(text), JSON.parse(text))
    }),
    { numRuns: 1_000 },
  )
})

test('accepts nothing that JSON.parse refuses, and returns the same value', () => {
  const bits = [
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '"a"',
    '"b"',
    '1',
    '-',
    'e5',
    '.5',
    'null',
    'true',
    ' ',
    '\\',
    '\\u0061',
  ]
  const soup = fc.array(fc.oneof(fc.constantFrom(...bits), fc.string({ maxLength: 3 })), { maxLength: 12 })
  fc.assert(
    fc.property(soup, (parts) => {
      const text = parts.join('')
      let value: unknown
      try {
        value = parseStrict(text)
      } catch (error) {
        assert.equal((error as HenceError).code, 'json-invalid')
        return
      }
      assert.deepEqual(value, JSON.parse(text))
    }),
    { numRuns: 5_000 },
  )
})

test('finds a repeated name at any position', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 30 }), fc.nat(), (names, pick) => {
      fc.pre(!names.includes('__proto__'))
      const again = names[pick % names.length]!
      const text = (all: string[]) => `{"in":[{${all.map((name) => `${JSON.stringify(name)}:0`).join()}}]}`
      parseStrict(text(names))
      refused(text([...names, again]), /occurs twice/)
    }),
  )
})
