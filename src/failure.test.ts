import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HenceError } from './failure.ts'

test('an error carries a code to match on and advice to act on', () => {
  const error = new HenceError('request-id-reused', 'change', 'said once, meant twice')
  assert.equal(error.code, 'request-id-reused')
  assert.equal(error.advice, 'change')
  assert.ok(error instanceof Error)
})
