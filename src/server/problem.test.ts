import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import { problemOf } from './problem.ts'

test('the title of a problem is its code in words, with capitals where English has them', () => {
  const title = (code: string) => problemOf(new HenceError(code, 'change', 'x'))?.title
  assert.equal(title('json-invalid'), 'JSON invalid')
  assert.equal(title('request-id-missing'), 'Request id missing')
  assert.equal(title('url-invalid'), 'URL invalid')
  assert.equal(title('violation-not-found'), 'Violation not found')
})
