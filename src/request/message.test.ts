import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Schema } from '../app/index.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { inputOf, messageOf } from './message.ts'

/** The output that is stored beside an input whose schema returns another value. */
function stored(input: unknown, returned: unknown): string | undefined {
  const validate = () => ({ value: returned })
  const schema = { '~standard': { version: 1, vendor: 'test', validate } } as Schema
  const definition = { name: 'pay', input: schema, key: () => 'ann' }
  return messageOf(definition, inputOf('pay', input, mainRealm), mainRealm).output
}

test('the output of a schema is stored if it differs in more than the order of fields', () => {
  const input = { from: 'ann', to: { name: 'bob', age: 5 } }
  assert.equal(stored(input, { from: 'ann', to: { name: 'bob', age: 5 } }), undefined)
  assert.equal(stored(input, { to: { age: 5, name: 'bob' }, from: 'ann' }), undefined)
  for (const other of [
    { from: 'ann', to: { name: 'bob', years: 5 } },
    { to: { age: 6, name: 'bob' }, from: 'ann' },
    { from: 'ann', to: { name: 'bob' } },
    { from: 'ann', to: { name: 'bob', age: 5 }, cents: 1 },
  ])
    assert.equal(stored(input, other), JSON.stringify(other))
  // As many fields, and all that the output has are equal.
  assert.equal(stored({ to: 'bob', cents: 1 }, { to: 'bob', note: undefined }), '{"to":"bob"}')
})
