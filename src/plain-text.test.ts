import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { plain } from './plain-text.ts'

const hostile = fc.string({ unit: 'binary', maxLength: 300 })
// Characters that a terminal or a page would obey instead of showing them.
const acting = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

test('plain text has no character that takes effect', () => {
  assert.equal(plain('a\x1b[31mb\r\n\u202ec\x9b\u2028'), 'a\\u001b[31mb\\u000d\\u000a\\u202ec\\u009b\\u2028')
  assert.equal(plain('\ud800'), '\\ud800')
  assert.equal(plain('\u{e0001}'), '\\udb40\\udc01')
  assert.equal(plain('Ordinary: {"a":[1,"ä 漢 😀"]} | `x`'), 'Ordinary: {"a":[1,"ä 漢 😀"]} | `x`')
  fc.assert(fc.property(hostile, (text) => !acting.test(plain(text)) && plain(text).isWellFormed()))
})

test('it changes nothing twice, and JSON keeps its meaning', () => {
  fc.assert(
    fc.property(hostile, (text) => {
      assert.equal(plain(plain(text)), plain(text))
      assert.deepEqual(JSON.parse(plain(JSON.stringify({ [text]: text }))), { [text]: text })
    }),
  )
})
