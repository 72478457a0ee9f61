import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { HenceError } from '../failure.ts'
import type { Call } from './handlers.ts'
import { webhook } from './webhook.ts'

const secret = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`
const other = `whsec_${Buffer.from('another secret of it').toString('base64')}`

interface Got {
  readonly method: string | undefined
  readonly path: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

let got: Got[] = []
let answer: RequestListener = (_, response) => response.end()
const server = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  got.push({ method: request.method, path: request.url, headers: request.headers, body })
  answer(request, response)
})
let url: string

before(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=in-the-address`
})

after(() => {
  server.closeAllConnections()
  server.close()
})

function call(change: Partial<Call> = {}): Call {
  return {
    type: 'charge',
    input: { cents: 5, text: 'ü' },
    id: '0f5c1f8a-0000-8000-8000-000000000001',
    attempt: 1,
    at: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    requestId: 'r1',
    principal: 'ann',
    key: 'o1',
    signal: new AbortController().signal,
    ...change,
  }
}

async function thrown(act: Promise<unknown> | unknown): Promise<Error & { retryAfterMs?: number }> {
  try {
    await act
  } catch (error) {
    return error as Error
  }
  assert.fail('nothing was thrown')
}

test('what arrives is verified by the receiver, and the same for every try', async () => {
  got = []
  const handler = webhook({ url, secret, headers: { Authorization: 'Bearer x', 'Webhook-Id': 'forged' } })
  await handler(call())
  await handler(call({ attempt: 2 }))
  for (const { method, path, headers, body } of got) {
    assert.deepEqual([method, path], ['POST', '/hook?token=in-the-address'])
    assert.deepEqual(new Webhook(secret).verify(body, headers as Record<string, string>), {
      type: 'charge',
      timestamp: '2026-01-02T03:04:05.678Z',
      data: { cents: 5, text: 'ü' },
    })
    assert.throws(() => new Webhook(other).verify(body, headers as Record<string, string>))
    assert.equal(headers['webhook-id'], call().id)
    assert.equal(headers['idempotency-key'], call().id)
    assert.equal(headers['content-type'], 'application/json')
    assert.equal(headers.authorization, 'Bearer x')
  }
  assert.equal(got.length, 2)
  assert.equal(got[0]!.body, got[1]!.body)
})

test('address, secret and headers may depend on the call; several secrets sign together', async () => {
  got = []
  const handler = webhook<{ to: string }>({
    url: async ({ input }) => new URL(input.to, url),
    secret: ({ principal }) => (principal === 'ann' ? [secret, other] : other),
    headers: ({ key }) => ({ 'x-key': key }),
  })
  await handler({ ...call(), input: { to: '/there' } })
  const [{ path, headers, body }] = got as [Got]
  assert.deepEqual([path, headers['x-key']], ['/there', 'o1'])
  for (const each of [secret, other]) new Webhook(each).verify(body, headers as Record<string, string>)
})

test('the JSON of an answer is the result; anything else is none', async () => {
  const handler = webhook({ url, secret, responseBytesMax: 100 })
  for (const [type, body, result] of [
    ['application/json', '{"paid":true}', { paid: true }],
    ['application/problem+json; charset=utf-8', '[1]', [1]],
    ['text/plain', '{"paid":true}', null],
    ['application/json', '{"paid":', null],
    ['application/json', JSON.stringify('x'.repeat(200)), null],
    ['application/json', '', null],
    // Whatever JSON.parse would change or hide is no result.
    ['application/json', '{"__proto__":{"paid":true}}', null],
    ['application/json', '{"id":9007199254740993}', null],
    ['application/json', '{"id":9007199254740993.0}', null],
    ['application/json', '{"paid":false,"paid":true}', null],
    ['application/json', '"\\ud800"', null],
    ['application/json', Buffer.from([0x22, 0xff, 0x22]), null],
  ] as const) {
    answer = (_, response) => response.writeHead(201, { 'content-type': type }).end(body)
    assert.deepEqual(await handler(call()), result)
  }
})

test('an answer without end is cut off', async () => {
  answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const more = () => {
      while (response.write(' '.repeat(10_000)));
    }
    response.on('drain', more)
    more()
  }
  assert.equal(await webhook({ url, secret })(call()), null)
})

test('refusals are for good, the rest is tried again', async () => {
  const handler = webhook({ url, secret })
  for (const status of [400, 401, 403, 404, 410, 422]) {
    answer = (_, response) => response.writeHead(status).end('why')
    const error = await thrown(handler(call()))
    assert.ok(error instanceof HenceError)
    assert.deepEqual([error.code, error.advice], ['effect-refused', 'change'])
    assert.match(error.message, new RegExp(`^127.0.0.1:\\d+ refused it with status ${status}$`))
  }
  for (const status of [408, 409, 425, 429, 500, 502, 503, 301, 302, 307, 308]) {
    answer = (_, response) => response.writeHead(status, { location: '/elsewhere' }).end()
    got = []
    const error = await thrown(handler(call()))
    assert.ok(!(error instanceof HenceError), String(status))
    assert.equal(error.retryAfterMs, undefined)
    assert.equal(got.length, 1, 'redirects are not followed')
  }
})

test('Retry-After is honoured, in seconds and as a date', async () => {
  const handler = webhook({ url, secret })
  const retryAfter = async (value: string) => {
    answer = (_, response) => response.writeHead(503, { 'retry-after': value }).end()
    return (await thrown(handler(call()))).retryAfterMs
  }
  assert.equal(await retryAfter('120'), 120_000)
  assert.equal(await retryAfter('0'), 0)
  const ms = (await retryAfter(new Date(Date.now() + 3_600_000).toUTCString()))!
  assert.ok(ms > 3_500_000 && ms <= 3_600_000)
  assert.equal(await retryAfter(new Date(0).toUTCString()), 0)
  assert.equal(await retryAfter('soon'), undefined)
})

test('a receiver that cuts, refuses connections or hangs is tried again; its signal ends the waiting', async () => {
  answer = (request) => request.socket.destroy()
  assert.match((await thrown(webhook({ url, secret })(call()))).message, /gave no answer/)
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  const refused = await thrown(webhook({ url: `http://127.0.0.1:${port}`, secret })(call()))
  assert.equal(refused.message, `127.0.0.1:${port} gave no answer (ECONNREFUSED)`)
  const aborting = new AbortController()
  answer = () => aborting.abort(new Error('it took too long'))
  const hung = await thrown(webhook({ url, secret })(call({ signal: aborting.signal })))
  assert.equal(hung.message, 'it took too long')
})

test('no error contains a secret', async () => {
  answer = (_, response) => response.writeHead(400).end('token=in-the-address')
  const hidden = /in-the-address|c2VjcmV0|hidden/
  const bad = webhook({ url: () => `https://user:hidden@example.org/`, secret: () => '*hidden*' })
  const errors = [
    await thrown(webhook({ url, secret })(call())),
    await thrown(webhook({ url, secret, headers: { authorization: 'hidden\n' } })(call())),
    await thrown(bad(call())),
    await thrown(webhook({ url, secret: () => '*hidden*' })(call())),
    await thrown((async () => webhook({ url, secret: '*hidden*' }))()),
    await thrown((async () => webhook({ url: 'https://user:hidden@example.org/', secret }))()),
  ]
  for (const error of errors) assert.doesNotMatch(error.message, hidden)
  for (const [url, secrets] of [
    ['ftp://example.org', secret],
    ['not an address', secret],
    ['https://example.org', []],
    ['https://example.org', ''],
  ] as const) {
    assert.throws(() => webhook({ url, secret: secrets }), { code: 'option-invalid', advice: 'change' })
  }
})
