import assert from 'node:assert/strict'
import { test } from 'node:test'
import { writeAnswer } from './answer.ts'
import { StartingServer } from './starting.ts'

test('requests wait for a standby that takes the log, and for nobody else', async (t) => {
  const starting = new StartingServer()
  t.after(() => starting.close())
  const { url } = await starting.listen(0, '127.0.0.1')
  const ask = (path = '/') => fetch(`${url}${path}`, { headers: { connection: 'close' } })
  const codeOf = async (asked: Promise<Response>) => ((await (await asked).json()) as { code: string }).code

  starting.progress({ derived: 0, of: 2 })
  assert.equal(await codeOf(ask()), 'engine-starting')
  starting.progress({ derived: 2, of: 2, follows: 'http://a' })
  assert.equal(await codeOf(ask()), 'engine-standby')

  // Another process was first.
  starting.progress({ derived: 2, of: 2 })
  const overtaken = ask()
  assert.equal(await (await ask('/livez')).text(), 'live\n')
  starting.progress({ derived: 2, of: 2, follows: 'http://b' })
  assert.equal(await codeOf(overtaken), 'engine-standby')

  starting.progress({ derived: 2, of: 2 })
  const held = ask()
  assert.equal(await (await ask('/livez')).text(), 'live\n')
  starting.handOver((_, response) => writeAnswer(response, { status: 200, headers: {}, body: 'active' }))
  assert.equal(await (await held).text(), 'active')

  const late = new StartingServer()
  t.after(() => late.close())
  const { url: other } = await late.listen(0, '127.0.0.1')
  late.progress({ derived: 0, of: 2, follows: 'http://a' })
  late.progress({ derived: 0, of: 2 })
  assert.equal(await codeOf(fetch(other)), 'engine-starting')
})
