import { throws } from 'node:assert/strict'
import { test } from 'node:test'
import { assert } from './assert.ts'

test('a failed assertion names what it relied on and what it found', () => {
  assert(true, 'the count of open events is not negative', 0)
  throws(() => assert(false, 'the count of open events is not negative', -1, 0), {
    code: 'assertion-failed',
    advice: 'operator',
    message: /the count of open events is not negative\. Found -1, expected 0\./,
  })
})
