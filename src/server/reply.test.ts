import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Story } from 'hence'
import { connect } from 'hence/client'
import { memoryStorage } from 'hence/testing'
import { v7 } from 'uuid'
import type * as made from '../../test/apps/bank.ts'
import type * as seats from '../../test/apps/tickets.ts'
import { appsOf } from '../../test/apps.ts'
import { serve } from '../../test/server/serve.ts'

const { tickets } = appsOf<typeof seats>(import.meta.resolve('../../test/apps/tickets.ts'))
const { bank } = appsOf<typeof made>(import.meta.resolve('../../test/apps/bank.ts'))

const callers = {
  admin: { principal: 'ann', permissions: ['admin'] },
  bob: { principal: 'bob', permissions: ['submit'] },
} as const

test('a request names what it replies to, and the stories of both lead to each other', async (t) => {
  const app = await bank({ statement: 'paid' })
  const data = memoryStorage({ partitions: 3 })
  let engine = await createEngine({ app, data, report: () => {} })
  const { url, call } = await serve(t, engine, callers)
  const json = { 'content-type': 'application/json' }
  const pay = (id: string, cents: number, headers: Record<string, string> = {}, who = 'admin') =>
    call(who, '/requests/pay', {
      method: 'POST',
      headers: { ...json, 'idempotency-key': id, ...headers },
      body: JSON.stringify({ from: 'ann', to: 'bob', cents }),
    })
  const story = async (id: string, who = 'admin') =>
    (await (await call(who, `/requests/${id}`)).json()) as Story
  // 45 cents send a letter.
  assert.equal((await pay('first', 45)).status, 200)
  await engine.idle()
  const letter = (await story('first')).steps.flatMap(({ effects }) => effects)[0]!.id
  assert.equal((await pay('to-letter', 1, { 'hence-in-reply-to': `"${letter}"` })).status, 200)
  assert.equal((await pay('to-first', 2, { 'hence-in-reply-to': 'first' })).status, 200)
  // Another principal's request of that id is another request.
  assert.equal((await pay('of-bob', 3, { 'hence-in-reply-to': 'first' }, 'bob')).status, 200)
  const line = {
    requestId: 'line',
    type: 'pay',
    input: { from: 'ann', to: 'bob', cents: 4 },
    inReplyTo: 'first',
  }
  const lines = await call('admin', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: `${JSON.stringify(line)}\n${JSON.stringify({ ...line, requestId: 'bad', inReplyTo: 'a b' })}\n`,
  })
  const answers = (await lines.text()).trim().split('\n')
  assert.match(answers[0]!, /"accepted"/)
  assert.match(answers[1]!, /"request-id-invalid"/)
  const itself = v7()
  const refused = await pay(itself, 6, { 'hence-in-reply-to': itself.toUpperCase() })
  assert.match(await refused.text(), /names itself/)
  const service = connect<typeof engine.app>(url, { headers: { authorization: 'Test admin' } } as never)
  t.after(() => service.close())
  const input = { from: 'ann', to: 'bob', cents: 5 } as never
  await service.submit('pay' as never, input, { requestId: 'connected', inReplyTo: letter })
  const upper = v7().toUpperCase()
  await service.submit('pay' as never, input, { requestId: upper })
  await service.submit('pay' as never, input, { requestId: 'to-upper', inReplyTo: upper })
  // The id that the first try named is kept.
  await service.submit('pay' as never, input, { requestId: 'connected', inReplyTo: 'other' })

  const check = async (from: (id: string) => Promise<Story>) => {
    assert.equal((await from('to-letter')).inReplyTo, letter)
    assert.equal((await from('connected')).inReplyTo, letter)
    assert.equal((await from('first')).inReplyTo, undefined)
    assert.deepEqual(
      (await from(upper)).replies.map(({ requestId }) => requestId),
      ['to-upper'],
    )
    const { replies } = await from('first')
    assert.deepEqual(
      replies.map(({ inReplyTo, requestId, principal, type }) => [inReplyTo, requestId, principal, type]),
      [
        ['first', 'line', 'ann', 'pay'],
        ['first', 'to-first', 'ann', 'pay'],
        [letter, 'connected', 'ann', 'pay'],
        [letter, 'to-letter', 'ann', 'pay'],
      ],
    )
  }
  await check(story)
  assert.equal((await pay('spaces', 1, { 'hence-in-reply-to': 'a b' })).status, 400)
  await engine.close()
  // From the log alone.
  engine = await createEngine({
    app,
    data: { ...memoryStorage({ partitions: 3 }), log: data.log },
    report: () => {},
  })
  await check(async (id) => (await engine.story(id, { principal: 'ann' }))!)
  await engine.close()
})

for (const partitions of [1, 8]) {
  test(`on ${partitions} partitions a reply to a violation is in the story that opened it`, async () => {
    const engine = await createEngine({
      app: await tickets({ mode: 'loose', limit: 1, review: 'human' }),
      data: memoryStorage({ partitions }),
      report: () => {},
      handlers: { sorry: () => {}, delayed: () => {}, seated: () => {} },
    })
    await engine.submit('hold', { booking: 'a', seats: 1 }, { requestId: 'a' })
    await engine.submit('hold', { booking: 'b', seats: 1 }, { requestId: 'b' })
    await engine.idle()
    const [violation] = await engine.violations.list()
    const inReplyTo = violation!.id
    await engine.submit('give-back', { booking: 'b', units: 1 }, { requestId: 'answer', inReplyTo })
    const replies = async (id: string) => (await engine.story(id))!.replies.map(({ requestId }) => requestId)
    assert.deepEqual(await replies('b'), ['answer'])
    assert.deepEqual(await replies('a'), [])
    await engine.close()
  })

  test(`on ${partitions} partitions a reply to a violation is in the story of whom it made wait`, async () => {
    const engine = await createEngine({
      app: await tickets({ mode: 'strict', limit: 2, waitingList: { victims: true } }),
      data: memoryStorage({ partitions }),
      report: () => {},
      handlers: { sorry: () => {}, delayed: () => {}, seated: () => {} },
    })
    await engine.submit('hold', { booking: 'a', seats: 2 }, { requestId: 'a' })
    await engine.submit('set-seats', { seats: 0 }, { requestId: 'fewer' })
    await engine.idle()
    const [violation] = await engine.violations.list()
    const inReplyTo = violation!.id
    await engine.submit('give-back', { booking: 'a', units: 1 }, { requestId: 'answer', inReplyTo })
    const replies = async (id: string) => (await engine.story(id))!.replies.map(({ requestId }) => requestId)
    assert.deepEqual(await replies('a'), ['answer'])
    assert.deepEqual(await replies('fewer'), ['answer'])
    await engine.close()
  })
}
