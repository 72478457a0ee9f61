import assert from 'node:assert/strict'

import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { z } from 'zod'
import { accepted, cut, problem, type Script, ScriptedServer } from '../../test/scripted-server.ts'
import { app, type Frozen, HenceError, type Reply, reject, scopes } from '../app/index.ts'
import { type Client, type ClientOptions, client } from './client.ts'
import { connect } from './connect.ts'
import { Exchange } from './exchange.ts'
import { memory } from './memory.ts'
import type { Outbox } from './outbox.ts'

const [order] = scopes('order')
const orders = order.table('orders', {
  value: z.object({ owner: z.string(), state: z.enum(['open', 'shipped']) }),
  indexes: { byOwner: ['owner'] },
})
const lines = order.table('lines', { value: z.object({ sku: z.string() }), key: ['number'] })
const place = order.request('place', {
  input: z.object({ order: z.string(), units: z.int() }),
  key: (input) => input.order,
  derive: (tx) => (tx.get(orders) ? reject('order-exists') : { state: 'open' as const }),
})
const ship = order.request('ship', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive: (tx) => (tx.get(orders) ? undefined : reject('unknown-order')),
})
const shop = app('shop', { requests: [place, ship], tables: [orders, lines] })
type Shop = typeof shop

const mug = { order: 'o1', units: 1 }
/** Pauses that no test has to wait out. */
const quick = { firstMs: 1, mostMs: 2 }

async function open(
  t: TestContext,
  answer: Parameters<typeof ScriptedServer.listen>[0],
  options: Partial<ClientOptions> = {},
): Promise<{ server: ScriptedServer; hence: Client<Shop>; again: () => Client<Shop> }> {
  const server = await ScriptedServer.listen(answer)
  const outbox = memory()
  const clients: Client<Shop>[] = []
  const again = () => {
    const made = client<Shop>({ url: server.url, outbox, backoff: quick, patienceMs: 5_000, ...options })
    clients.push(made)
    return made
  }
  const hence = again()
  t.after(async () => {
    for (const each of clients) await each.close()
    await server.close()
  })
  return { server, hence, again }
}

/** The next event of a kind. */
function next<E extends Parameters<Client<Shop>['on']>[0]>(hence: Client<Shop>, event: E) {
  return new Promise<Parameters<Parameters<typeof hence.on<E>>[1]>[0]>((resolve) => {
    const stop = hence.on(event, (detail) => {
      stop()
      resolve(detail)
    })
  })
}

async function refused(act: Promise<unknown>, code: string, advice: string): Promise<HenceError> {
  let found: unknown
  await assert.rejects(act, (error) => {
    found = error
    return true
  })
  assert.ok(found instanceof HenceError, String(found))
  assert.deepEqual([found.code, found.advice], [code, advice])
  return found
}

test('the three outcomes', async (t) => {
  const { server, hence } = await open(t, (asked) => accepted(asked, { state: 'open' }, '0:7'), {
    key: async () => 'hence_secret',
    headers: { 'x-csrf': 'c1' },
  })
  const reply = await hence.submit('place', mug)
  assert.match(reply.requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
  const { requestId } = reply
  assert.deepEqual(reply, {
    status: 'accepted',
    value: { state: 'open' },
    token: '0:7',
    replayed: false,
    requestId,
  })
  const [asked] = server.asked
  assert.equal(asked!.method, 'POST')
  assert.equal(asked!.path, '/requests/place')
  assert.equal(asked!.headers['idempotency-key'], `"${requestId}"`)
  assert.equal(asked!.headers.authorization, 'Bearer hence_secret')
  assert.equal(asked!.headers['x-csrf'], 'c1')
  assert.equal(asked!.headers['content-type'], 'application/json')
  assert.deepEqual(JSON.parse(asked!.body), mug)

  const told = (outcome: string) => ({ outcome, requestId: 'r1', token: '0:8', replayed: true })
  server.answer(() =>
    problem(409, 'rejected', 'change', {
      ...told('rejected'),
      reason: 'order-exists',
      details: { state: 'open' },
    }),
  )
  assert.deepEqual(await hence.submit('place', mug, { requestId: 'r1' }), {
    status: 'rejected',
    reason: 'order-exists',
    details: { state: 'open' },
    requestId: 'r1',
    token: '0:8',
    replayed: true,
  })
  server.answer(() => problem(500, 'derivation-threw', 'change', told('failed')))
  assert.deepEqual(await hence.submit('place', mug, { requestId: 'r1' }), {
    status: 'failed',
    code: 'derivation-threw',
    message: 'It is derivation-threw.',
    requestId: 'r1',
    token: '0:8',
    replayed: true,
  })
})

const html: Script = { status: 200, body: '<h1>Log in to the network</h1>', type: 'text/html' }
const noDecisions: readonly [string, Script][] = [
  ['a connection that is cut before the answer', cut],
  [
    'an answer that is cut in the middle',
    (response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '500' })
      response.write('{"requestId":')
      setImmediate(() => response.destroy())
    },
  ],
  ['overload', problem(503, 'overloaded', 'retry')],
  ['too many requests', problem(429, 'too-many-streams', 'retry')],
  ['a request that arrived too slowly', problem(408, 'body-too-slow', 'retry')],
  ['an unforeseen error', problem(500, 'internal-error', 'operator')],
  ['the page of a network that wants a login', html],
  ['a 404 of somebody else', { ...html, status: 404 }],
  ['a 403 of somebody else', { status: 403, body: { error: 'blocked' } }],
  ['a 413 of a proxy', { ...html, status: 413 }],
  ['a 502 of a proxy', { ...html, status: 502 }],
  ['an address where nothing is', problem(404, 'route-not-found', 'change')],
  ['a page that may not use the server', problem(403, 'origin-refused', 'change')],
  ['a redirect', { status: 302, body: '', headers: { location: '/elsewhere' } }],
  ['JSON of somebody else', { status: 200, body: { ok: true } }],
  ['null', { status: 200, body: 'null' }],
  [
    'the outcome of another request',
    {
      status: 200,
      body: { requestId: 'other', status: 'accepted', value: 1, token: '0:1', replayed: false },
    },
  ],
  [
    'the rejection of another request',
    problem(409, 'rejected', 'change', {
      outcome: 'rejected',
      reason: 'x',
      requestId: 'other',
      token: '0:1',
    }),
  ],
  ['an answer that nobody asked for', { status: 202, body: { requestId: 'r1', token: '0:1' } }],
]
for (const [what, script] of noDecisions) {
  test(`decides nothing, and is tried again: ${what}`, async (t) => {
    const { server, hence } = await open(t, (asked) => (server.asked.length < 3 ? script : accepted(asked)))
    const retrying = next(hence, 'retrying')
    const reply = await hence.submit('place', mug, { requestId: 'r1' })
    assert.equal(reply.status, 'accepted')
    assert.equal((await retrying).attempts, 1)
    assert.ok((await retrying).problem instanceof HenceError)
    assert.deepEqual(
      server.asked.map(({ id, body }) => [id, body]),
      Array.from({ length: 3 }, () => ['r1', JSON.stringify(mug)]),
    )
    assert.deepEqual(await hence.pending(), [])
  })
}

test('a server that is not there yet is waited for, and one that does not answer is asked anew', async (t) => {
  const server = await ScriptedServer.listen((asked) =>
    server.asked.length === 1 ? () => {} : accepted(asked),
  )
  t.after(() => server.close())
  let isThere = false
  const hence = client<Shop>({
    url: server.url,
    outbox: memory(),
    backoff: quick,
    timeoutMs: 50,
    fetch: (input, init) => fetch(isThere ? input : 'http://127.0.0.1:1/', init),
  })
  t.after(() => hence.close())
  const reply = hence.submit('place', mug)
  assert.equal((await next(hence, 'retrying')).problem?.code, 'server-unreachable')
  isThere = true
  assert.equal((await reply).status, 'accepted')
  // More often if this process was kept from reading an answer in time.
  assert.ok(server.asked.length >= 2)
})

test('of two processes one that hangs is given up after five seconds, by many calls together', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const hung: string[] = []
  const exchange = new Exchange({
    url: ['http://hangs', 'http://answers'],
    fetch: async (input, init) => {
      if (`${input}`.startsWith('http://answers')) return Response.json({ of: 'another' })
      hung.push(`${input}`)
      return new Promise((_, reject) =>
        init!.signal!.addEventListener('abort', () => reject(new Error('late'))),
      )
    },
  })
  const calls = [
    exchange.ask({ path: '/1' }),
    exchange.ask({ path: '/2' }),
    exchange.open({ path: '/changes' }),
  ]
  while (hung.length < 3) await new Promise(setImmediate)
  t.mock.timers.tick(5_000)
  for (const call of calls) await assert.rejects(call, /within 5000 ms/)
  assert.deepEqual((await exchange.ask({ path: '/1' })).body, { of: 'another' })
})

for (const code of ['engine-standby', 'engine-unsure', 'server-closing', 'writes-held-up']) {
  test(`calls that meet ${code} together go to the next process, at once`, async () => {
    const headers = { 'retry-after': '1' }
    const exchange = new Exchange({
      url: ['http://other', 'http://active'],
      fetch: async (input) => {
        if (`${input}`.startsWith('http://active')) return Response.json({})
        return Response.json({ code, advice: 'retry', detail: 'Not here.' }, { headers })
      },
    })
    for (const answer of await Promise.all([exchange.ask({ path: '/1' }), exchange.ask({ path: '/2' })]))
      assert.equal(answer.headers.get('retry-after'), null)
    assert.deepEqual((await exchange.ask({ path: '/1' })).body, {})
  })
}

test('Retry-After is honoured, and retry() does not wait for it', async (t) => {
  const { server, hence } = await open(t, (asked) =>
    server.asked.length === 1
      ? problem(503, 'overloaded', 'retry', {}, { 'retry-after': '600' })
      : accepted(asked),
  )
  const reply = hence.submit('place', mug)
  const { inMs } = await next(hence, 'retrying')
  assert.ok(inMs >= 600_000 && inMs <= 600_002, String(inMs))
  hence.retry()
  assert.equal((await reply).status, 'accepted')
})

for (const [status, code] of [
  [400, 'request-id-invalid'],
  [403, 'not-allowed'],
  [404, 'unknown-request'],
  [410, 'request-id-expired'],
  [413, 'body-too-large'],
  [422, 'input-invalid'],
] as const) {
  test(`a refusal is final: ${status} ${code}`, async (t) => {
    const { server, hence } = await open(t, () => problem(status, code, 'change'))
    const told = next(hence, 'refused')
    await refused(hence.submit('place', mug, { requestId: 'r1' }), code, 'change')
    assert.equal((await told).error.code, code)
    assert.equal((await told).requestId, 'r1')
    assert.deepEqual(await hence.pending(), [])
    assert.equal(server.asked.length, 1)
  })
}

for (const [status, code, becomes] of [
  [403, 'not-allowed', 'outcome-unknown'],
  [404, 'unknown-request', 'outcome-unknown'],
  // Found only after the id was looked up, or of any try.
  [422, 'input-invalid', 'input-invalid'],
  [413, 'body-too-large', 'body-too-large'],
] as const) {
  test(`a refusal after a lost answer: ${code} is ${becomes}`, async (t) => {
    const { server, hence } = await open(t, () =>
      server.asked.length === 1 ? cut : problem(status, code, 'change'),
    )
    const error = await refused(hence.submit('place', mug), becomes, becomes === code ? 'change' : 'operator')
    if (becomes !== code) assert.equal((error.cause as HenceError).code, code)
  })
}

/** A server that judges ids by its clock, as an engine does. */
const judging = (asked: { readonly headers: Readonly<Record<string, unknown>> }) => {
  const made = Number.parseInt(String(asked.headers['idempotency-key']).slice(1, 14).replace('-', ''), 16)
  if (made < Date.now() - 30 * 86_400_000) return problem(410, 'request-id-expired', 'change')
  if (made > Date.now() + 300_000) return problem(400, 'request-id-from-the-future', 'change')
  return undefined
}

test('a device whose clock is 40 days behind gets a new id for what was never taken', async (t) => {
  const clock = { now: () => Date.now() - 40 * 86_400_000 }
  const { server, hence } = await open(t, (asked) => judging(asked) ?? accepted(asked), { clock })
  assert.equal((await hence.submit('place', mug)).status, 'accepted')
  assert.equal(server.asked.length, 2)
  // The next id is made by the server's time.
  assert.equal((await hence.submit('place', mug)).status, 'accepted')
  assert.equal(server.asked.length, 3)
  assert.deepEqual(await hence.pending(), [])
})

test('an id of the future waits, and the next ones are made by the time of the server', async (t) => {
  const clock = { now: () => Date.now() + 360_000 }
  let isLater = false
  const { server, hence } = await open(
    t,
    (asked) => (isLater ? undefined : judging(asked)) ?? accepted(asked),
    { clock },
  )
  const first = hence.submit('place', mug, { queue: 'first' })
  const { problem: why, requestId } = await next(hence, 'stuck')
  assert.equal(why?.code, 'request-id-from-the-future')
  assert.equal((await hence.submit('place', mug, { queue: 'second' })).status, 'accepted')
  assert.equal((await hence.pending())[0]!.requestId, requestId)
  isLater = true
  hence.retry()
  assert.equal((await first).requestId, requestId)
  assert.ok(server.asked.length >= 3)
})

for (const choice of [undefined, 'keep', 'anew', 'drop'] as const) {
  test(`an expired id that may have been taken asks the app: ${choice ?? 'by default it is kept'}`, async (t) => {
    const clock = { now: () => Date.now() - 40 * 86_400_000 }
    const asks: string[] = []
    const { server, hence } = await open(
      t,
      (asked) => (server.asked.length === 1 ? cut : (judging(asked) ?? accepted(asked))),
      {
        clock,
        ...(choice && {
          expired: ({ type, requestId }: { type: string; requestId: string }) => {
            asks.push(`${type} ${requestId}`)
            return choice
          },
        }),
      },
    )
    const reply = hence.submit('place', mug)
    reply.catch(() => {})
    if (choice === 'anew') {
      assert.equal((await reply).status, 'accepted')
    } else if (choice === 'drop') {
      await refused(reply, 'outcome-unknown', 'operator')
    } else {
      const { problem: why, requestId } = await next(hence, 'stuck')
      assert.equal(why?.code, 'outcome-unknown')
      assert.deepEqual(
        (await hence.pending()).map((each) => each.requestId),
        [requestId],
      )
    }
    assert.equal(asks.length > 0, choice !== undefined)
  })
}

test('after a reload, what was surely never sent gets a new id, and only the rest asks the app', async (t) => {
  const calls: string[] = []
  let isDown = true
  const stored = memory()
  const outbox: Outbox = {
    async open() {
      const inner = await stored.open()
      return {
        ...inner,
        async add(request) {
          calls.push(`add ${JSON.parse(request.input).order}${request.unsent ? ' unsent' : ''}`)
          await inner.add(request)
        },
        async replace(request) {
          calls.push(`sends ${JSON.parse(request.input).order}`)
          assert.equal(request.unsent, undefined)
          await inner.replace!(request)
        },
      }
    },
  }
  const asks: string[] = []
  const clock = { now: () => Date.now() - 40 * 86_400_000 }
  const { server, hence, again } = await open(
    t,
    (asked) => {
      calls.push(`sent ${JSON.parse(asked.body).order}`)
      return isDown ? cut : (judging(asked) ?? accepted(asked))
    },
    {
      outbox,
      clock,
      expired({ input }: { input: unknown }) {
        asks.push((input as { order: string }).order)
        return 'anew'
      },
    },
  )
  const submit = (order: string) => {
    hence.submit('place', { order, units: 1 }).catch(() => {})
  }
  const retrying = next(hence, 'retrying')
  submit('first')
  await retrying
  submit('second')
  submit('third')
  assert.equal((await hence.pending()).length, 3)
  await hence.close()
  assert.deepEqual(
    calls.filter((call) => !call.startsWith('sent')),
    ['add first', 'add second unsent', 'add third unsent'],
  )
  isDown = false
  calls.splice(0)
  const later = again()
  const decided = new Promise<void>((resolve) => {
    let count = 0
    later.on('decided', () => ++count === 3 && resolve())
  })
  await decided
  assert.deepEqual(asks, ['first'])
  // A request that is first in its queue is stored as sent with no write of its own.
  assert.deepEqual(
    calls.filter((call, i) => call !== calls[i - 1]),
    [
      ...['sent first', 'add first', 'sent first'],
      ...['sends second', 'sent second', 'add second', 'sent second'],
      ...['sends third', 'sent third', 'add third', 'sent third'],
    ],
  )
  assert.ok(server.asked.length >= 7)
})

test('overload says that nothing was taken, so a refusal after it is a plain one', async (t) => {
  const { server, hence } = await open(t, () =>
    server.asked.length === 1
      ? problem(503, 'overloaded', 'retry')
      : problem(410, 'request-id-expired', 'change'),
  )
  await refused(hence.submit('place', mug), 'request-id-expired', 'change')
})

test('without a login requests stay stored, until there is one', async (t) => {
  let key = 'old'
  const { server, hence } = await open(
    t,
    (asked) =>
      asked.headers.authorization === 'Bearer new'
        ? accepted(asked)
        : problem(401, 'not-authenticated', 'change'),
    { key: () => key, backoff: { firstMs: 3_600_000, mostMs: 3_600_000 } },
  )
  const reply = hence.submit('place', mug)
  const stuck = await next(hence, 'stuck')
  assert.equal(stuck.problem?.code, 'not-authenticated')
  assert.deepEqual(
    (await hence.pending()).map(({ requestId, attempts }) => [requestId, attempts]),
    [[stuck.requestId, 1]],
  )
  key = 'new'
  hence.retry()
  assert.equal((await reply).status, 'accepted')
  assert.equal(server.asked.length, 2)
})

test('a request that was tried ten times is said to be stuck, once, and goes on', async (t) => {
  const { server, hence } = await open(t, (asked) => (server.asked.length <= 25 ? cut : accepted(asked)))
  const stuck: number[] = []
  hence.on('stuck', ({ attempts }) => stuck.push(attempts))
  await hence.submit('place', mug)
  assert.deepEqual(stuck, [10])
})

test('a queue keeps its order, whatever happens to its first; other queues do not wait', async (t) => {
  let fails = 3
  const { server, hence } = await open(t, (asked) =>
    asked.id === 'a1' && fails-- > 0 ? cut : accepted(asked),
  )
  const finished: string[] = []
  const submit = async (requestId: string, queue?: string) => {
    await hence.submit('place', mug, { requestId, ...(queue === undefined ? {} : { queue }) })
    finished.push(requestId)
  }
  await Promise.all([submit('a1', 'a'), submit('a2', 'a'), submit('a3', 'a'), submit('b1', 'b')])
  const ids = server.asked.map(({ id }) => id)
  assert.deepEqual(
    ids.filter((id) => id.startsWith('a')),
    ['a1', 'a1', 'a1', 'a1', 'a2', 'a3'],
  )
  assert.ok(ids.indexOf('b1') <= 2, 'b did not wait for a')
  assert.deepEqual(
    finished.filter((id) => id.startsWith('a')),
    ['a1', 'a2', 'a3'],
  )
  server.asked.length = 0
  await Promise.all([submit('c1'), submit('c2'), submit('c3')])
  assert.deepEqual(
    server.asked.map(({ id }) => id),
    ['c1', 'c2', 'c3'],
    'without a name there is one queue',
  )
})

test('so many queues send at a time, and no more', async (t) => {
  let under = 0
  let most = 0
  const { server, hence } = await open(
    t,
    async (asked) => {
      most = Math.max(most, ++under)
      // All that may come have come when the third is there.
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      under--
      return accepted(asked)
    },
    { parallel: 3 },
  )
  await Promise.all(Array.from({ length: 30 }, (_, i) => hence.submit('place', mug, { queue: `q${i}` })))
  assert.equal(server.asked.length, 30)
  assert.ok(most <= 3, `${most} at a time`)
})

test('nothing is sent before it is stored, and what cannot be stored is not sent', async (t) => {
  let store: () => void = () => {}
  let failing = false
  const outbox: Outbox = {
    async open() {
      const inner = await memory().open()
      return {
        ...inner,
        async add(request) {
          if (failing) throw new Error('no space')
          await new Promise<void>((resolve) => {
            store = resolve
          })
          await inner.add(request)
        },
      }
    },
  }
  const { server, hence } = await open(t, (asked) => accepted(asked), { outbox })
  const reply = hence.submit('place', mug)
  await new Promise(setImmediate)
  assert.equal(server.asked.length, 0)
  store()
  await reply
  assert.deepEqual(await hence.pending(), [])
  failing = true
  const error = await refused(hence.submit('place', mug, { requestId: 'r1' }), 'outbox-failed', 'retry')
  assert.match(error.message, /no space/)
  assert.equal(server.asked.length, 1)
  failing = false
  const later = hence.submit('place', mug, { requestId: 'r1' })
  await new Promise(setImmediate)
  store()
  assert.equal((await later).status, 'accepted')
})

test('a client that is closed in the middle leaves its requests to the next one', async (t) => {
  const { server, hence, again } = await open(t, () => () => {})
  const lost = hence.submit('place', mug, { requestId: 'r1', queue: 'q' })
  lost.catch(() => {})
  const behind = hence.submit('ship', { order: 'o1' }, { requestId: 'r2', queue: 'q' })
  behind.catch(() => {})
  await next(hence, 'pending')
  while (server.asked.length === 0) await new Promise(setImmediate)
  await hence.close()
  await refused(lost, 'client-closed', 'retry')
  await refused(behind, 'client-closed', 'retry')
  await refused(hence.submit('place', mug), 'client-closed', 'retry')

  server.answer((asked) => accepted(asked))
  const second = again()
  const pending = next(second, 'pending')
  const decided: string[] = []
  const both = new Promise<void>((resolve) => {
    second.on('decided', ({ requestId, type, input }) => {
      decided.push(`${requestId} ${type} ${JSON.stringify(input)}`)
      if (decided.length === 2) resolve()
    })
  })
  assert.equal((await pending).requestId, 'r1')
  await both
  assert.deepEqual(decided, ['r1 place {"order":"o1","units":1}', 'r2 ship {"order":"o1"}'])
  assert.deepEqual(await second.pending(), [])
})

test('an id on its way: the same content waits with it, another is refused', async (t) => {
  const { server, hence } = await open(t, (asked) => accepted(asked))
  const first = hence.submit('place', mug, { requestId: 'r1' })
  const second = hence.submit('place', { units: 1, order: 'o1' }, { requestId: 'r1' })
  await refused(
    hence.submit('place', { ...mug, units: 2 }, { requestId: 'r1' }),
    'request-id-reused',
    'change',
  )
  assert.deepEqual(await first, await second)
  assert.equal(server.asked.length, 1)
  await refused(hence.submit('place', mug, { requestId: 'with space' }), 'request-id-invalid', 'change')
})

test('an id with quotes goes over whole', async (t) => {
  const { server, hence } = await open(t, () => ({
    status: 200,
    body: { requestId: 'a"b\\c', status: 'accepted', value: null, token: '0:1', replayed: false },
  }))
  await hence.submit('place', mug, { requestId: 'a"b\\c' })
  assert.equal(server.asked[0]!.headers['idempotency-key'], '"a\\"b\\\\c"')
})

test('a listener that throws disturbs nobody, and is not hidden', async (t) => {
  const { hence } = await open(t, (asked) => accepted(asked))
  const uncaught = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve))
  t.after(() => process.setUncaughtExceptionCaptureCallback(null))
  hence.on('decided', () => {
    throw new Error('broken')
  })
  const heard = next(hence, 'decided')
  await hence.submit('place', mug)
  await heard
  assert.equal(((await uncaught) as Error).message, 'broken')
})

test('reads wait once for each outcome that this client received', async (t) => {
  const { server, hence } = await open(t, (asked) => {
    if (asked.method === 'POST') return accepted(asked, null, asked.id)
    return { status: 200, body: { key: ['o1'], value: { owner: 'ann', state: 'open' } } }
  })
  await hence.submit('place', mug, { requestId: '0:5' })
  await hence.submit('place', mug, { requestId: '0:3' })
  await hence.submit('place', mug, { requestId: '2:9' })
  // A token stands for its own request alone, so none does for another.
  server.asked.length = 0
  assert.deepEqual(await hence.get('orders', ['o1']), { owner: 'ann', state: 'open' })
  await hence.get('orders', ['o1'])
  await hence.get('orders', ['o1'], { after: '1:1' })
  assert.deepEqual(
    server.asked.map(({ path }) => path),
    [
      '/tables/orders/o1?after=0%3A5&after=0%3A3&after=2%3A9',
      '/tables/orders/o1',
      '/tables/orders/o1?after=1%3A1',
    ],
  )
})

test('more tokens than an address holds are waited for in turns, and the last thousand are kept', async (t) => {
  const { server, hence } = await open(t, (asked) => {
    if (asked.method === 'POST') return accepted(asked, null, asked.id)
    return { status: 200, body: { value: null, rows: [] } }
  })
  for (let i = 0; i < 1_050; i++) await hence.submit('place', mug, { requestId: `0:${i}` })
  server.asked.length = 0
  await hence.get('orders', ['o1'])
  const asked = server.asked.map(({ path }) => new URLSearchParams(path.split('?')[1]).getAll('after'))
  assert.equal(asked.length, 10)
  assert.deepEqual(
    asked.flat(),
    Array.from({ length: 1_000 }, (_, i) => `0:${i + 50}`),
  )
  assert.match(server.asked.at(-1)!.path, /^\/tables\/orders\/o1\?/)
  await hence.scan('orders')
  assert.equal(server.asked.at(-1)!.path, '/tables/orders?limit=1000')
})

test('rows: keys in addresses, those that are not there, and errors', async (t) => {
  const { server, hence } = await open(t, () => problem(404, 'row-not-found', 'change'))
  assert.equal(await hence.get('lines', ['a/b ü', 3]), undefined)
  assert.equal(server.asked[0]!.path, '/tables/lines/a%2Fb%20%C3%BC/3')
  server.answer(() => problem(404, 'unknown-table', 'change'))
  await refused(hence.get('orders', ['o1']), 'unknown-table', 'change')
  // A step within the address cannot be asked for, so it is asked in another way.
  server.answer(() => ({ status: 200, body: { rows: [{ key: ['..', 3], value: { sku: 'mug' } }] } }))
  assert.deepEqual(await hence.get('lines', ['..', 3]), { sku: 'mug' })
  assert.match(server.asked.at(-1)!.path, /^\/tables\/lines\?prefix=/)
  let failures = 2
  server.answer(() => (failures-- > 0 ? cut : { status: 200, body: { key: ['o1'], value: { a: 1 } } }))
  assert.deepEqual(await hence.get('orders', ['o1']), { a: 1 })
})

test('a read that finds nobody gives up when patience ends', async (t) => {
  const { hence } = await open(t, () => cut, { patienceMs: 20 })
  await refused(hence.get('orders', ['o1']), 'server-unreachable', 'retry')
})

test('a scan takes page after page, and begins anew when the server forgot its place', async (t) => {
  const row = (i: number) => ({ key: [`o${i}`], value: { owner: 'ann', state: 'open' as const } })
  let forgets = 1
  const { server, hence } = await open(t, ({ path }) => {
    const query = new URLSearchParams(path.split('?')[1])
    const from = Number(query.get('cursor') ?? 0)
    if (from === 2000 && forgets-- > 0) return problem(400, 'cursor-invalid', 'change')
    const count = Math.min(Number(query.get('limit')), 2_500 - from)
    const rows = Array.from({ length: count }, (_, i) => row(from + i))
    return { status: 200, body: { rows, ...(from + count < 2_500 && { cursor: String(from + count) }) } }
  })
  const rows = await hence.scan('orders', { index: 'byOwner', prefix: ['ann'], reverse: true })
  assert.equal(rows.length, 2_500)
  assert.deepEqual(rows[2_499], row(2_499))
  assert.equal(
    server.asked[0]!.path,
    '/tables/orders?index=byOwner&prefix=%5B%22ann%22%5D&reverse=true&limit=1000',
  )
  server.asked.length = 0
  assert.equal((await hence.scan('orders', { limit: 1_200 })).length, 1_200)
  assert.deepEqual(
    server.asked.map(({ path }) => path),
    ['/tables/orders?limit=1000', '/tables/orders?limit=200&cursor=1000'],
  )
})

test('a connection tries for as long as its patience, and stores nothing', async (t) => {
  const { server } = await open(t, (asked) => (server.asked.length < 3 ? cut : accepted(asked)))
  const remote = connect<Shop>(server.url, { backoff: quick, key: 'k' })
  const reply = await remote.submit('place', mug, { requestId: 'r1' })
  assert.equal(reply.status, 'accepted')
  assert.equal(server.asked.length, 3)
  server.answer(() => ({ status: 202, body: { requestId: 'r2', token: '0:4' } }))
  assert.deepEqual(await remote.enqueue('place', mug, { requestId: 'r2' }), { requestId: 'r2', token: '0:4' })
  assert.equal(server.asked.at(-1)!.headers['prefer'], 'respond-async')
  server.answer(() => problem(401, 'not-authenticated', 'change'))
  await refused(remote.submit('place', mug, { requestId: 'r3' }), 'not-authenticated', 'change')
  const failing = [problem(410, 'request-id-expired', 'change'), cut]
  server.answer(() => failing.pop()!)
  await refused(remote.submit('place', mug, { requestId: 'r4' }), 'outcome-unknown', 'operator')

  server.answer(() => cut)
  const hasty = connect<Shop>(server.url, { backoff: quick, patienceMs: 10 })
  await refused(hasty.submit('place', mug, { requestId: 'r5' }), 'server-unreachable', 'retry')
  server.answer(() => () => {})
  const asked = server.asked.length
  const waiting = remote.submit('place', mug, { requestId: 'r6' })
  waiting.catch(() => {})
  while (server.asked.length === asked) await new Promise(setImmediate)
  await remote.close()
  await refused(waiting, 'client-closed', 'retry')
  await hasty.close()
})

test('what makes no sense is refused at once', async () => {
  const options = { outbox: memory(), url: 'http://localhost/hence' }
  for (const wrong of [{ url: '/hence' }, { parallel: 0 }, { outbox: undefined as never }]) {
    assert.throws(
      () => client<Shop>({ ...options, ...wrong }),
      (error) => error instanceof HenceError && error.code === 'option-invalid',
    )
  }
  assert.throws(() => client<Shop>(undefined as never), { code: 'option-invalid' })
  const hence = client<Shop>(options)
  const self: Record<string, unknown> = {}
  self['self'] = self
  for (const [units, says] of [
    [Number.NaN, /units is NaN/],
    [1n, /units is a bigint/],
    [new Date(0), /units is an object of class Date/],
    [[undefined], /units\.0 is undefined/],
    ['\ud800', /units is text with half/],
    [self, /within itself/],
  ] as const) {
    const error = await refused(
      hence.submit('place', { order: 'o1', units } as never),
      'input-not-json',
      'change',
    )
    assert.match(error.message, says)
  }
  await hence.close()
})

// Types alone: `npm run types` compiles this, and it is never run.
export async function typed(hence: Client<Shop>): Promise<void> {
  const same = <A, B>(
    _: (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false,
  ) => {}
  const reply = await hence.submit('place', { order: 'o1', units: 1 }, { queue: 'o1' })
  same<typeof reply, Reply<{ state: 'open' }, 'order-exists'>>(true)
  // @ts-expect-error a request that the app does not have
  await hence.submit('pay', { order: 'o1' })
  // @ts-expect-error a field of the wrong kind
  await hence.submit('place', { order: 'o1', units: 'one' })
  // @ts-expect-error a field that is missing
  await hence.submit('place', { order: 'o1' })
  // @ts-expect-error a reason that this request does not give
  if (reply.status === 'rejected' && reply.reason === 'unknown-order') return
  if (reply.status === 'accepted') {
    // @ts-expect-error a field that the value does not have
    reply.value.owner
  }
  const row = await hence.get('orders', ['o1'])
  same<typeof row, Frozen<{ owner: string; state: 'open' | 'shipped' }> | undefined>(true)
  await hence.get('lines', ['o1', 1])
  // @ts-expect-error a key part too few
  await hence.get('lines', ['o1'])
  // @ts-expect-error a table that the app does not have
  await hence.get('stock', ['o1'])
  await hence.scan('orders', { index: 'byOwner' })
  // @ts-expect-error an index that the table does not have
  await hence.scan('lines', { index: 'byOwner' })
  hence.on('decided', ({ type, reply }) => {
    // The type of the request determines the type of its reply.
    if (type === 'ship') same<typeof reply, Reply<null, 'unknown-order'>>(true)
  })
  // @ts-expect-error an event that there is not
  hence.on('lost', () => {})
  hence.subscribe({ tables: ['orders'] }, ([change]) => {
    same<NonNullable<typeof change>['table'], 'orders'>(true)
    change?.after?.state
    // @ts-expect-error a field of another table
    change?.after?.sku
  })
  // @ts-expect-error a table that the app does not have
  hence.subscribe({ tables: ['stock'] }, () => {})
}

test('an answer is read up to a bound, however little of it came over the wire', async (t) => {
  const bomb = gzipSync(Buffer.alloc(128 * 1024 * 1024), { level: 9 })
  assert.ok(bomb.length < 150_000)
  const explode: Script = (response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }).end(bomb)
  }
  const bound = { answerBytesMax: 1024 * 1024, patienceMs: 0 }
  const { server, hence } = await open(t, () => explode, bound)
  const held = () => process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed
  const before = held()
  let peak = 0
  const watching = setInterval(() => {
    peak = Math.max(peak, held() - before)
  }, 1)
  t.after(() => clearInterval(watching))
  const stuck = next(hence, 'stuck')
  const submitted = hence.submit('place', mug)
  const { problem: found } = await stuck
  assert.deepEqual([found?.code, found?.advice], ['answer-too-large', 'operator'])
  await refused(hence.get('orders', ['o1']), 'answer-too-large', 'operator')
  const ended = Promise.withResolvers<HenceError>()
  // The bomb in place of a stream.
  const following = connect<Shop>(server.url, { ...bound, backoff: quick })
  t.after(() => following.close())
  await refused(following.submit('place', mug, { requestId: 'r1' }), 'answer-too-large', 'operator')
  following.subscribe(() => {}, ended.resolve)
  assert.ok(peak < 64 * 1024 * 1024, `${peak} bytes`)
  // The request is still stored, and is decided once the server answers.
  server.answer((asked) =>
    asked.path.startsWith('/changes') ? problem(404, 'x', 'change') : accepted(asked),
  )
  hence.retry()
  assert.equal((await submitted).status, 'accepted')
  assert.equal((await ended.promise).code, 'x')
})

test('a long Retry-After of somebody else silences for minutes, not hours', async (t) => {
  const day = { 'retry-after': '86400' }
  const hour = 3_600_000
  for (const [script, msMax] of [
    [{ ...html, status: 503, headers: day }, hour / 12],
    [{ status: 503, body: { error: 'maintenance' }, headers: day }, hour / 12],
    [problem(503, 'overloaded', 'retry', {}, day), hour],
  ] as const) {
    const { server, hence } = await open(t, (asked) => (server.asked.length === 1 ? script : accepted(asked)))
    const reply = hence.submit('place', mug)
    const { inMs } = await next(hence, 'retrying')
    assert.ok(inMs >= msMax && inMs <= msMax + quick.mostMs, `${inMs} of ${msMax}`)
    hence.retry()
    assert.equal((await reply).status, 'accepted')
  }
})

test('pending() is right from the first moment', async (t) => {
  const { hence, again } = await open(t, () => cut, { backoff: { firstMs: 60_000, mostMs: 60_000 } })
  const ids = async (of: Client<Shop>) => (await of.pending()).map(({ requestId }) => requestId)
  hence.submit('place', mug, { requestId: 'r1' }).catch(() => {})
  hence.submit('place', mug, { requestId: 'r2', queue: 'another' }).catch(() => {})
  assert.deepEqual(await ids(hence), ['r1', 'r2'])
  await hence.close()
  assert.deepEqual(await ids(again()), ['r1', 'r2'])
  const broken: Outbox = { open: () => Promise.reject(new HenceError('outbox-failed', 'retry', 'no disk')) }
  const without = client<Shop>({ url: 'http://127.0.0.1:1', outbox: broken })
  t.after(() => without.close())
  await refused(without.pending(), 'outbox-failed', 'retry')
})

test('which refusals are final can be set, in both directions', async (t) => {
  const seen: unknown[] = []
  const isFinal: ClientOptions['isFinal'] = ({ status, code }) => {
    seen.push([status, code])
    return status === 413 ? true : code === 'not-allowed' ? false : undefined
  }
  const { server, hence } = await open(t, () => ({ ...html, status: 413 }), { isFinal })
  await refused(hence.submit('place', mug), 'answer-not-understood', 'retry')
  assert.deepEqual(await hence.pending(), [])
  server.answer(() => problem(403, 'not-allowed', 'change'))
  const kept = hence.submit('place', mug, { requestId: 'r1' })
  assert.equal((await next(hence, 'stuck')).problem?.code, 'not-allowed')
  server.answer(() => problem(404, 'unknown-request', 'change'))
  // The tries before wrote nothing, so this one is a plain refusal.
  await refused(kept, 'unknown-request', 'change')
  // An earlier try may have been accepted, and a proxy says nothing about it.
  server.answer(() => cut)
  const unknown = hence.submit('place', mug, { requestId: 'r2' })
  await next(hence, 'retrying')
  server.answer(() => ({ ...html, status: 413 }))
  await refused(unknown, 'outcome-unknown', 'operator')
  assert.deepEqual(seen[0], [413, undefined])
  assert.ok(seen.some((each) => JSON.stringify(each) === '[403,"not-allowed"]'))
})
