import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { HenceError } from '../failure.ts'
import { recordBytesMax } from '../log/log.ts'
import { mainRealm } from './realm.ts'

const jsonWithoutProto = fc.jsonValue().filter((value) => !JSON.stringify(value).includes('"__proto__":'))

test('sealing keeps what JSON keeps, whatever it is', () => {
  fc.assert(
    // A field named __proto__ is refused; that is tested below.
    fc.property(jsonWithoutProto, (value) => {
      const sealed = mainRealm.seal(value)
      assert.deepEqual(sealed, JSON.parse(JSON.stringify(value)))
      assert.deepEqual(
        mainRealm.parseFrozen(JSON.stringify(sealed)),
        sealed,
        'what is read again is what was sealed',
      )
    }),
  )
})

test('what is sealed or read is frozen all the way down, and a copy', () => {
  const value = { list: [{ n: 1 }] }
  for (const sealed of [
    mainRealm.seal(value),
    mainRealm.parseFrozen(JSON.stringify(value)),
  ] as (typeof value)[]) {
    assert.ok(Object.isFrozen(sealed) && Object.isFrozen(sealed.list) && Object.isFrozen(sealed.list[0]))
  }
  const sealed = mainRealm.seal(value) as typeof value
  value.list[0]!.n = 2
  assert.equal(sealed.list[0]!.n, 1)
})

test('undefined fields are left out and -0 becomes 0', () => {
  assert.deepEqual(mainRealm.seal({ a: undefined, b: -0 }), { b: 0 })
  assert.ok(Object.is((mainRealm.seal([-0]) as number[])[0], 0))
})

test('a plain object of another realm becomes one of this realm', () => {
  const foreign = runInNewContext('({ list: [{ a: 1 }] })')
  assert.deepStrictEqual(mainRealm.seal(foreign), { list: [{ a: 1 }] })
})

const cycle: unknown[] = []
cycle.push(cycle)
for (const [what, value, message] of [
  ['undefined', undefined, /The value is undefined/],
  ['NaN', { a: Number.NaN }, /at a is NaN/],
  ['infinity', { a: [1, Number.POSITIVE_INFINITY] }, /at a\.1 is Infinity/],
  ['a bigint', { a: 1n }, /a bigint/],
  ['a symbol', { a: Symbol('x') }, /a symbol/],
  ['a function', { a: () => 1 }, /a function/],
  ['a date', { at: new Date(0) }, /at at is a Date object/],
  ['a map', new Map(), /a Map object/],
  ['a list with a hole', [1, undefined], /at 1 is undefined/],
  ['a field named __proto__', JSON.parse('{"__proto__": 1}'), /__proto__/],
  ['half a surrogate pair', { a: '\ud800' }, /surrogate/],
  ['half a surrogate pair in a name', { '\ud800': 1 }, /surrogate/],
  ['a cycle', cycle, /a cycle/],
] as const) {
  test(`sealing refuses ${what} and names the place`, () => {
    assert.throws(
      () => mainRealm.seal(value),
      (error) => error instanceof HenceError && error.code === 'not-json' && message.test(error.message),
    )
    assert.deepEqual(mainRealm.seal({ fine: 1 }), { fine: 1 }, 'the next value is none the worse')
  })
}

test('sealing refuses what is too large for a record, and takes what is just not', () => {
  const tooLarge = (error: unknown) => error instanceof HenceError && error.code === 'value-too-large'
  const most = 1024 * 1024 - 8
  assert.equal(mainRealm.seal('x'.repeat(most)), 'x'.repeat(most))
  assert.throws(() => mainRealm.seal('x'.repeat(most + 1)), tooLarge)
  assert.throws(() => mainRealm.seal(new Array(1024 * 128).fill(1)), tooLarge)
  assert.throws(() => mainRealm.seal({ ['x'.repeat(most)]: 1 }), tooLarge)
})

test('four sealed values fit in a record, however JSON escapes them: a correction has so many', () => {
  const most = 1024 * 1024 - 8
  let largest = 0
  for (const escaped of ['\u0001', '"', '\u{1f600}']) {
    for (let part = 0; part <= 1; part += 0.05) {
      const count = Math.floor((most * part) / escaped.length)
      const text = escaped.repeat(count) + '\u8a9e'.repeat(most - count * escaped.length)
      try {
        largest = Math.max(largest, Buffer.byteLength(JSON.stringify(mainRealm.seal(text))))
      } catch (error) {
        assert.equal((error as HenceError).code, 'value-too-large')
        assert.notEqual(escaped, '"')
      }
    }
  }
  assert.ok(4 * largest + 64 * 1024 < recordBytesMax, `${largest} bytes`)
})
