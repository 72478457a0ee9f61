import assert from 'node:assert/strict'
import { test } from 'node:test'
import { postgresLogAt } from './log.ts'

test('the address of a log in PostgreSQL has its place, and parameters that the driver honours', () => {
  const address =
    'postgres://u:p%2Fw@db/shop?log=a&schema=s&table=t&sslmode=verify-full&application_name=x&options=-c%20a%3Db'
  assert.deepEqual(postgresLogAt(address), {
    connection: 'postgres://u:p%2Fw@db/shop?sslmode=verify-full&application_name=x&options=-c+a%3Db',
    log: 'a',
    schema: 's',
    table: 't',
  })
  assert.deepEqual(postgresLogAt('postgres:///shop?host=%2Frun'), {
    connection: 'postgres:///shop?host=%2Frun',
  })
})

test('an address with a parameter that nobody honours is refused, with those that are', () => {
  for (const name of ['logg', 'sslMode', 'target_session_attrs', 'channel_binding']) {
    const message = new RegExp(`"${name}"[^]*log, schema, table,[^]*sslmode`)
    assert.throws(() => postgresLogAt(`postgres://u@db/shop?${name}=x`), { code: 'option-invalid', message })
  }
  // Half of a password is not printed.
  assert.throws(() => postgresLogAt('postgres://u:12?34@db/shop'), {
    code: 'option-invalid',
    message: /^((?!34).)*$/,
  })
})
