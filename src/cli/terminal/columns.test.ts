import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { plain } from '../../plain-text.ts'
import { cut, cutToDifference, widthOf } from './columns.ts'

const hostile = fc.string({ unit: 'binary', maxLength: 300 })

test('shortened text fits its columns, has whole characters, and is unchanged where it fits', () => {
  assert.equal(cut('abc', 3), 'abc')
  assert.equal(cut('abcd', 3), 'ab…')
  assert.equal(cut('漢字漢', 5), '漢字…')
  assert.equal(cut('漢字漢', 6), '漢字漢')
  assert.equal(cut('😀😀', 3), '😀…')
  fc.assert(
    fc.property(hostile, fc.integer({ min: 1, max: 100 }), (text, columns) => {
      const shown = cut(plain(text), columns)
      assert.ok(widthOf(shown) <= columns)
      assert.ok(shown.isWellFormed())
      if (widthOf(plain(text)) <= columns) assert.equal(shown, plain(text))
      else assert.ok(shown.endsWith('…') && plain(text).startsWith(shown.slice(0, -1)))
    }),
  )
})

test('two texts are shortened so that their first difference is visible', () => {
  const long = 'x'.repeat(1_000)
  assert.deepEqual(cutToDifference('12.000000001', '12', 20), ['12.000000001', '12'])
  assert.deepEqual(cutToDifference(`${long}1`, `${long}2`, 20), ['…xxxxx1', '…xxxxx2'])
  fc.assert(
    fc.property(hostile, hostile, hostile, fc.integer({ min: 12, max: 100 }), (same, x, y, columns) => {
      const [a, b] = [plain(same + x), plain(same + y)]
      fc.pre(a !== b)
      const [was, is] = cutToDifference(a, b, columns)
      assert.notEqual(was, is)
      for (const shown of [was, is]) assert.ok(widthOf(shown) <= columns && shown.isWellFormed())
    }),
  )
})
