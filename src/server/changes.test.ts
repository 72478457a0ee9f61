import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { createEngine, HenceError } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import type * as made from '../../test/apps/charges.ts'
import { appsOf } from '../../test/apps.ts'
import { type Message, type Reading, read } from '../../test/server/events.ts'
import { callers, notes, type Served, serve, serveNotes } from '../../test/server/serve.ts'
import type { EffectState } from '../effect/outbox.ts'

const note = (owner: string, number: number) => ({ owner, number, text: `${owner} ${number}` })

test('changes arrive in order, each with the position behind it, and a reader who reconnects misses nothing', async (t) => {
  const served = await serveNotes(t, { partitions: 3 })
  const first = await read(served, 'reader', '/changes?table=notes')
  const open = await first.next()
  assert.equal(open?.event, 'open')
  assert.equal(open?.id, served.engine.position())
  for (let i = 0; i < 5; i++) await served.submit('admin', 'write', `a${i}`, note('ada', i))
  const seen: Message[] = []
  while (seen.length < 3) seen.push((await first.next())!)
  await first.stop()
  for (let i = 5; i < 8; i++) await served.submit('admin', 'write', `a${i}`, note('bob', i))
  const header = { 'last-event-id': seen.at(-1)!.id! }
  for (const [path, headers] of [
    ['/changes?table=notes', header],
    [`/changes?table=notes&from=${header['last-event-id']}`, {}],
    // A browser reconnects to the same address: the header is newer.
    [`/changes?table=notes&from=${open!.id}`, header],
  ] as const) {
    const second = await read(served, 'reader', path, headers)
    assert.equal((await second.next())!.id, header['last-event-id'])
    const rest: Message[] = []
    while (rest.length < 5) rest.push((await second.next())!)
    await second.stop()
    const numbers = [...seen, ...rest].flatMap(({ data }) =>
      (JSON.parse(data) as { after: { text: string } }[]).map(({ after }) => after.text),
    )
    assert.deepEqual(numbers.sort(), ['ada 0', 'ada 1', 'ada 2', 'ada 3', 'ada 4', 'bob 5', 'bob 6', 'bob 7'])
  }
})

test('readers get changes of their own rows only, in the tables and under the keys they name', async (t) => {
  const served = await serveNotes(t)
  const position = served.engine.position()
  for (let i = 0; i < 6; i++) await served.submit('admin', 'write', `a${i}`, note(i % 2 ? 'bob' : 'ada', i))
  await served.submit('admin', 'send', 's', { from: 'ada', to: 'bob', text: 'hello' })
  await served.engine.idle()
  const from = `from=${position}`
  const expected: readonly [who: string, query: string, keys: unknown[]][] = [
    [
      'ada',
      'table=notes',
      [
        ['ada', 0],
        ['ada', 2],
        ['ada', 4],
      ],
    ],
    [
      'bob',
      'table=notes&table=inbox',
      [
        ['bob', 1],
        ['bob', 3],
        ['bob', 5],
        ['bob', 's'],
      ],
    ],
    ['reader', 'table=inbox', [['bob', 's']]],
    // Without a table: all rows that are theirs.
    [
      'ada',
      '',
      [
        ['ada', 0],
        ['ada', 2],
        ['ada', 4],
      ],
    ],
    [
      'reader',
      `table=notes&prefix=${encodeURIComponent('["bob"]')}`,
      [
        ['bob', 1],
        ['bob', 3],
        ['bob', 5],
      ],
    ],
    ['reader', `table=notes&prefix=${encodeURIComponent('["bob",3]')}`, [['bob', 3]]],
  ]
  for (const [who, query, keys] of expected) {
    const reading = await read(served, who, `/changes?${query}&${from}`)
    await reading.next()
    const found: unknown[] = []
    while (found.length < keys.length) {
      for (const { key } of JSON.parse((await reading.next())!.data)) found.push(key)
    }
    await reading.stop()
    assert.deepEqual(found, keys, query)
  }
})

test('unknown positions and tables are refused before anything is sent', async (t) => {
  const { call } = await serveNotes(t)
  for (const from of ['999', '0.0', 'x', '-1', '']) {
    const response = await call('reader', `/changes?table=notes&from=${from}`)
    assert.equal(response.status, 410, from)
    assert.equal(((await response.json()) as { code: string }).code, 'position-unknown')
  }
  assert.equal((await call('reader', '/changes?table=none')).status, 404)
  assert.equal((await call('reader', '/changes?table=notes&prefix=1')).status, 400)
})

test('the number of streams is bounded, and a stream that ends makes room', async (t) => {
  const served = await serveNotes(t, { limits: { streams: 2 } })
  const [a, b] = [
    await read(served, 'ada', '/changes?table=notes'),
    await read(served, 'bob', '/changes?table=notes'),
  ]
  const third = await served.call('ada', '/changes?table=notes')
  assert.equal(third.status, 429)
  assert.equal(third.headers.get('retry-after'), '1')
  await a.stop()
  for (;;) {
    const again = await served.call('ada', '/changes?table=notes')
    await again.body?.cancel()
    if (again.status === 200) break
  }
  await b.stop()
})

test('an idle stream sends comments; closing the server ends it', async (t) => {
  const served = await serveNotes(t, { limits: { heartbeatMs: 5 } })
  const response = await served.call('ada', '/changes?table=notes')
  const reader = response.body!.getReader()
  let text = ''
  while (!text.includes(': here')) text += new TextDecoder().decode((await reader.read()).value)
  const closing = served.close()
  while (!(await reader.read()).done);
  await closing
})

test('a client that reads nothing is cut off, and delays nobody else', async (t) => {
  const served = await serveNotes(t, { limits: { stalledMs: 1_000, heartbeatMs: 60_000 } })
  const text = 'x'.repeat(20_000)
  // Much more than the buffers between both ends hold.
  const lines = Array.from({ length: 500 }, (_, i) =>
    JSON.stringify({ requestId: `m${i}`, type: 'write', input: { ...note('ada', i), text } }),
  )
  const batch = await served.call('admin', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: lines.join('\n'),
  })
  await batch.text()
  const stalled = await served.call('reader', '/changes?table=notes&from=0')
  const quick = await read(served, 'reader', '/changes?table=notes&from=0')
  let last: Message | undefined
  while (last?.id !== served.engine.position()) last = await quick.next()
  await quick.stop()
  // Reading starts too late: buffered bytes still arrive, then the connection ends early.
  const metrics = async () => (await served.call('operator', '/metrics')).text()
  while (!/hence_change_streams 0/.test(await metrics()));
  await assert.rejects(stalled.text())
})

test('a client that leaves while its host is asked for the caller begins no stream', async (t) => {
  const leaving = new AbortController()
  const gone = Promise.withResolvers<void>()
  const { call } = await serveNotes(t, {
    limits: { stalledMs: 100 },
    async authenticate({ url }, { incoming }) {
      const caller = { principal: '', permissions: ['admin'] }
      if (url.endsWith('/metrics')) return caller
      leaving.abort()
      await once(incoming!.socket, 'close')
      setImmediate(gone.resolve)
      return caller
    },
  })
  await assert.rejects(call(undefined, '/changes', { signal: leaving.signal }))
  await gone.promise
  let metrics = ''
  while (!/^hence_change_streams 0$/m.test(metrics)) {
    metrics = await (await call(undefined, '/metrics')).text()
  }
  assert.match(metrics, /route="\/changes",status="200"/)
})

test('a body that a host drops is cancelled, and HEAD begins none', async (t) => {
  const engine = await createEngine({ app: notes, data: memoryStorage(), report: () => {} })
  const caller = { principal: '', permissions: ['admin'] }
  for (const cors of [undefined, { origins: ['https://shop.example'] }]) {
    const web = server(engine, {
      authenticate: () => caller,
      report: () => {},
      limits: { stalledMs: 100 },
      ...(cors && { cors }),
    })
    t.after(() => web.close())
    const ask = (path: string, init?: RequestInit) => web.fetch(new Request(`http://localhost${path}`, init))
    const open = async () => {
      const text = await (await ask('/metrics')).text()
      return [/^hence_change_streams (\d+)$/m, /^hence_batches (\d+)$/m].map((gauge) => gauge.exec(text)![1])
    }
    for (const path of ['/changes', '/tables/notes', '/reprocess', '/metrics']) {
      const head = await ask(path, { method: 'HEAD' })
      assert.deepEqual([head.status, head.body], [200, null], path)
    }
    assert.deepEqual(await open(), ['0', '0'])
    const batch = { method: 'POST', body: '\n', headers: { 'content-type': 'application/x-ndjson' } }
    // Responses that are kept and never read; without the variable they might be collected.
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const dropped = [await ask('/changes'), await ask('/requests', batch), await ask('/changes')]
    assert.deepEqual(await open(), ['2', '1'])
    t.mock.timers.tick(100)
    t.mock.timers.reset()
    while ((await open()).some((count) => count !== '0')) await new Promise(setImmediate)
    await assert.rejects(dropped[0]!.text(), /not read in time/)
  }
  await engine.close()
})

test('effects arrive as they are asked for, end and are redriven, and a reader who reconnects misses none', async (t) => {
  const { promise: mended, resolve: mend } = Promise.withResolvers<void>()
  let isMended = false
  const engine = await createEngine({
    app: await appsOf<typeof made>(import.meta.resolve('../../test/apps/charges.ts')).shop(),
    data: memoryStorage({ partitions: 3 }),
    report: () => {},
    handlers: {
      charge: () => {
        if (!isMended) throw new HenceError('no-bank', 'change', 'There is none.')
        mend()
        return { paid: true }
      },
      note: () => {},
    },
  })
  const served = { engine, ...(await serve(t, engine, callers)) } as unknown as Served
  const states = async (reading: Reading, wanted: string) => {
    const seen: string[] = []
    let id = ''
    while (!seen.includes(wanted)) {
      const message = (await reading.next())!
      id = message.id!
      if (message.event !== 'changes') continue
      for (const { table, after } of JSON.parse(message.data) as { table: string; after: EffectState }[]) {
        assert.equal(table, 'hence.effects')
        seen.push(`${after.type} ${after.state}`)
      }
    }
    return id
  }
  const path = '/changes?table=hence.effects'
  const first = await read(served, 'operator', path)
  await engine.submit('place', { order: 'o1', cents: 7 }, { requestId: 'r1', principal: 'ann' })
  const from = await states(first, 'charge dead')
  await first.stop()
  const [dead] = await engine.effects.list({ state: 'dead' })
  isMended = true
  await engine.effects.redrive({ effect: dead!.id, key: dead!.key, reason: 'mended' }, { requestId: 'again' })
  await mended
  const second = await read(served, 'operator', path, { 'last-event-id': from })
  await states(second, 'note done')
  await second.stop()
})
