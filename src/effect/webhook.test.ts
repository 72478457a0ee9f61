import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo, LookupFunction } from 'node:net'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { effectCall, thrown } from '../../test/effect-calls.ts'
import { HenceError } from '../failure.ts'
import type { Call } from './handlers.ts'
import { type WebhookOptions, webhook } from './webhook.ts'

const secret = `whsec_${Buffer.from('a secret of the receiver').toString('base64')}`
const other = `whsec_${Buffer.from('another secret of it').toString('base64')}`

/** The receivers of these tests are on this machine. */
function local<Input>(options: WebhookOptions<Input>) {
  return webhook({ allowAddresses: ['127.0.0.1'], ...options })
}

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

const call = (change: Partial<Call> = {}) => effectCall('charge', { cents: 5, text: 'ü' }, change)

test('what arrives is verified by the receiver, and the same for every try', async () => {
  got = []
  const handler = local({ url, secret, headers: { Authorization: 'Bearer x', 'Webhook-Id': 'forged' } })
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
  const handler = local<{ to: string }>({
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
  const handler = local({ url, secret, responseBytesMax: 100 })
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
  assert.equal(await local({ url, secret })(call()), null)
})

test('refusals are for good, the rest is tried again', async () => {
  const handler = local({ url, secret })
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
  const handler = local({ url, secret })
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
  assert.match((await thrown(local({ url, secret })(call()))).message, /gave no answer/)
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  const refused = await thrown(local({ url: `http://127.0.0.1:${port}`, secret })(call()))
  assert.equal(refused.message, `127.0.0.1:${port} gave no answer (ECONNREFUSED)`)
  const aborting = new AbortController()
  answer = () => aborting.abort(new Error('it took too long'))
  const hung = await thrown(local({ url, secret })(call({ signal: aborting.signal })))
  assert.equal(hung.message, 'it took too long')
})

test('no error contains a secret', async () => {
  answer = (_, response) => response.writeHead(400).end('token=in-the-address')
  const hidden = /in-the-address|c2VjcmV0|hidden/
  const bad = local({ url: () => `https://user:hidden@example.org/`, secret: () => '*hidden*' })
  const errors = [
    await thrown(local({ url, secret })(call())),
    await thrown(local({ url, secret, headers: { authorization: 'hidden\n' } })(call())),
    await thrown(bad(call())),
    await thrown(local({ url, secret: () => '*hidden*' })(call())),
    await thrown((async () => local({ url, secret: '*hidden*' }))()),
    await thrown((async () => local({ url: 'https://user:hidden@example.org/', secret }))()),
  ]
  for (const error of errors) assert.doesNotMatch(error.message, hidden)
  for (const [url, secrets] of [
    ['ftp://example.org', secret],
    ['not an address', secret],
    ['https://example.org', []],
    ['https://example.org', ''],
  ] as const) {
    assert.throws(() => local({ url, secret: secrets }), { code: 'option-invalid', advice: 'change' })
  }
})

test('an address that is not public is refused, however it is written', async () => {
  const { port } = new URL(url)
  const hosts = [
    ...[
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f000001',
      '0.0.0.0',
      'localhost',
      'LOCALHOST',
      '[::1]',
      '[::]',
    ],
    ...['[::ffff:127.0.0.1]', '[::ffff:a9fe:a9fe]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]'],
    ...['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1'],
    ...['100.100.100.200', '192.0.0.192', '168.63.129.16', '198.18.0.1', '224.0.0.1', '255.255.255.255'],
    ...['[fd00:ec2::254]', '[fe80::1]', '[fec0::1]', '[ff02::1]', '[2001:db8::1]', '[2001::1]'],
  ]
  got = []
  answer = (_, response) => response.end()
  for (const host of hosts) {
    const error = await thrown(webhook({ url: () => `http://${host}:${port}/`, secret })(call()))
    assert.ok(error instanceof HenceError, `${host}: ${error.message}`)
    assert.deepEqual([error.code, error.advice], ['address-not-allowed', 'change'], host)
  }
  assert.deepEqual(got, [])
  assert.throws(() => webhook({ url, secret }), { code: 'address-not-allowed' })
  // Nothing is sent here: a host that is public is not refused when the handler is made.
  for (const host of ['8.8.8.8', '[2606:4700::1111]', '[::ffff:8.8.8.8]', '172.32.0.1', 'example.org']) {
    webhook({ url: `https://${host}/`, secret })
  }
})

test('the address that was checked is the one that is connected to', async () => {
  const { port } = new URL(url)
  const asked: string[] = []
  let addresses: readonly string[] = []
  const lookup: LookupFunction = (host, { all }, callback) => {
    asked.push(host)
    const found = addresses.map((address) => ({ address, family: 4 }))
    // The next lookup would find another address, as with DNS rebinding.
    addresses = ['127.0.0.1']
    if (all) callback(null, found)
    else callback(null, found[0]!.address, 4)
  }
  const rebound = { url: `http://receiver.test:${port}/`, secret, lookup }
  got = []
  answer = (_, response) => response.end()
  addresses = ['127.0.0.1', '10.0.0.1']
  const error = await thrown(webhook(rebound)(call()))
  assert.ok(error instanceof HenceError && error.code === 'address-not-allowed', error.message)
  assert.deepEqual([got.length, asked], [0, ['receiver.test']])
  addresses = ['10.0.0.1', '127.0.0.1']
  await local(rebound)(call())
  assert.deepEqual([got.length, asked], [1, ['receiver.test', 'receiver.test']])
  assert.equal(got[0]!.headers.host, `receiver.test:${port}`)
})

test('ranges can be allowed; an unusable one is refused when the handler is made', async () => {
  got = []
  for (const range of ['127.0.0.0/8', '127.0.0.1/32', '0.0.0.0/0'])
    await webhook({ url, secret, allowAddresses: [range] })(call())
  assert.equal(got.length, 3)
  for (const range of ['127.0.0.0/33', '127.0.0.0/', '127.0.0.0/8/8', '127.0.0.0/x', 'localhost', ''])
    assert.throws(() => webhook({ url, secret, allowAddresses: [range] }), { code: 'option-invalid' }, range)
})

test('a certificate authority, or an agent that makes the connections, can be given', async (t) => {
  const secure = createSecureServer({ key: receiverKey, cert: receiverCertificate }, (_, response) => {
    response.end()
  }).listen(0, '127.0.0.1')
  await once(secure, 'listening')
  t.after(() => {
    secure.closeAllConnections()
    secure.close()
  })
  const { port } = secure.address() as AddressInfo
  const lookup: LookupFunction = (_, __, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }])
  const options = { url: `https://receiver.test:${port}/`, secret, lookup }
  assert.match((await thrown(local(options)(call()))).message, /DEPTH_ZERO_SELF_SIGNED_CERT/)
  assert.equal(await local({ ...options, ca: receiverCertificate })(call()), null)

  got = []
  answer = (_, response) => response.end()
  const agent = new Agent()
  await webhook({ url, secret, agent })(call())
  assert.equal(got.length, 1)
  for (const more of [{ allowAddresses: [] }, { lookup }, { ca: receiverCertificate }])
    assert.throws(() => webhook({ url, secret, agent, ...more }), { code: 'option-invalid' })
})

/** Of receiver.test, signed by itself, until 2126. */
const receiverKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOKyQnv8S9Uox8EG1
OGNGGGog47R0TWSfOmjHby6DhsGhRANCAARWcmdKKNN+Ux5MlGnNsPlooFJjhYN0
93fAsMqSB5xRpjYacVLVATd6psYsXNFVM5iIEHVaBd4bMWeXGQMyuBoo
-----END PRIVATE KEY-----`
const receiverCertificate = `-----BEGIN CERTIFICATE-----
MIIBoDCCAUegAwIBAgIUKLn1FFDhVj6Gmd3UTOX3/Z1fQXowCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcmVjZWl2ZXIudGVzdDAgFw0yNjExMjkwNzUxMzRaGA8yMTI2
MTEwNTA3NTEzNFowGDEWMBQGA1UEAwwNcmVjZWl2ZXIudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABFZyZ0oo035THkyUac2w+WigUmOFg3T3d8CwypIHnFGm
NhpxUtUBN3qmxixc0VUzmIgQdVoF3hsxZ5cZAzK4GiijbTBrMB0GA1UdDgQWBBR6
jnVa4ckWaEWNoNdzrzrtsQPdezAfBgNVHSMEGDAWgBR6jnVa4ckWaEWNoNdzrzrt
sQPdezAPBgNVHRMBAf8EBTADAQH/MBgGA1UdEQQRMA+CDXJlY2VpdmVyLnRlc3Qw
CgYIKoZIzj0EAwIDRwAwRAIgWxb8yZNXiQhtgx8oatxRdpln7IIzkoj30sBNX4eM
KMkCIFRV+uSA2dTG1tseH0kecnVNca/vciUMJIJAYk7fIhmx
-----END CERTIFICATE-----`
