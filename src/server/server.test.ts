import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, request as nodeRequest } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { createEngine } from 'hence'
import { createKey, type ServerOptions, server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { notes, serveNotes } from '../../test/server/serve.ts'

const note = (number: number) => ({ owner: 'ada', number, text: 'x' })

/** A server without keys and `authenticate`. */
async function open(t: TestContext, options: ServerOptions = { open: true }) {
  const engine = await createEngine({ app: notes, data: memoryStorage(), report: () => {} })
  const web = server(engine, { report: () => {}, ...options })
  t.after(async () => {
    await web.close()
    await engine.close()
  })
  return web
}

/** By hand, because fetch does not allow Host and Origin to be set. */
async function status(url: string, headers: Record<string, string>): Promise<number> {
  const sending = nodeRequest(`${url}/tables/notes`, { headers })
  sending.end()
  const [response] = await once(sending, 'response')
  response.resume()
  return response.statusCode
}

test('without keys it must be opened, and with keys it cannot be', async (t) => {
  const engine = await createEngine({ app: notes, data: memoryStorage(), report: () => {} })
  t.after(() => engine.close())
  const reports: string[] = []
  const report = ({ code }: { code: string }) => void reports.push(code)
  for (const options of [{}, { open: false }, { cors: { origins: ['https://shop.example'] } }]) {
    assert.throws(() => server(engine, { ...options, report }), { code: 'keys-missing', advice: 'change' })
  }
  for (const options of [{ keys: 'keys.json' }, { authenticate: () => undefined }]) {
    assert.throws(() => server(engine, { open: true, ...options, report }), { code: 'option-invalid' })
    await server(engine, { ...options, report }).close()
  }
  assert.deepEqual(reports, [])
  await server(engine, { open: true, report }).close()
  assert.deepEqual(reports, ['server-open'])
})

test('without keys it answers this machine only, and no page of another origin', async (t) => {
  const web = await open(t)
  const { url, port } = await web.listen()
  for (const host of [`127.0.0.1:${port}`, 'localhost', `localhost:${port}`, '[::1]', '127.5.5.5']) {
    assert.equal(await status(url, { host }), 200, host)
  }
  for (const host of [
    'evil.example',
    `rebound.evil.example:${port}`,
    'localhost.evil.example',
    '10.0.0.1',
    '127.0.0.1.evil.example',
  ]) {
    assert.equal(await status(url, { host }), 403, host)
  }
  const host = `localhost:${port}`
  assert.equal(await status(url, { host, origin: `http://${host}` }), 200)
  for (const headers of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: `http://localhost:${port + 1}` },
    { 'sec-fetch-site': 'cross-site' },
    { 'x-forwarded-for': '203.0.113.9' },
    { forwarded: 'for=203.0.113.9' },
    { 'x-forwarded-host': 'shop.example' },
    { 'x-real-ip': '203.0.113.9' },
    { via: '1.1 proxy' },
    { 'cf-connecting-ip': '203.0.113.9' },
  ]) {
    assert.equal(
      await status(url, { host, ...headers } as Record<string, string>),
      403,
      JSON.stringify(headers),
    )
  }
  // A `Request` does not say where it comes from.
  assert.equal((await web.fetch(new Request('http://localhost/tables/notes'))).status, 403)
})

test('without keys it answers no HTTP/1.0, which proxies send; two Host fields are refused', async (t) => {
  const web = await open(t)
  const { port } = await web.listen()
  const answer = async (head: string) => {
    const socket = connect(port, '127.0.0.1')
    // A socket that is ended at once gets no answer: the reading of rows takes a turn of the event loop.
    socket.write(head)
    let text = ''
    for await (const part of socket) text += part
    return text.slice(9, 12)
  }
  assert.equal(
    await answer('GET /tables/notes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n'),
    '200',
  )
  assert.equal(await answer('GET /tables/notes HTTP/1.0\r\nhost: localhost\r\n\r\n'), '403')
  const twice = 'host: localhost\r\nHOST: evil.example\r\nconnection: close\r\n\r\n'
  assert.equal(await answer(`GET /tables/notes HTTP/1.1\r\n${twice}`), '400')
  assert.equal(await answer(`GET /livez HTTP/1.1\r\n${twice}`), '400')
  const addressed = async (target: string, host = 'LOCALHOST:80') =>
    answer(`GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
  for (const target of ['/tables/../livez', '/%6Civez', 'http://localhost/livez'])
    assert.equal(await addressed(target), '200', target)
  for (const target of ['/livez\\', '//', 'http:', 'ftp://localhost/livez'])
    assert.notEqual(await addressed(target), '200', target)
  for (const host of ['user@localhost', 'localhost/livez?', 'local host', ''])
    assert.equal(await addressed('/livez', host), '400', host)
})

test('Prefer is parsed: a weight of 0 and quoted text do not ask for an early answer', async (t) => {
  const { submit } = await serveNotes(t)
  for (const [i, [prefer, status]] of [
    ['respond-async', 202],
    ['wait=10, Respond-Async', 202],
    ['respond-async; foo=1', 202],
    ['respond-async;q=0', 200],
    ['respond-async; q=0.0', 200],
    ['respond-async;q=0.5', 202],
    ['respond-async;q="0"', 200],
    ['respond-async; q="0.00"', 200],
    ['respond-async;q="0.5"', 202],
    ['foo="a, respond-async"', 200],
    ['respond-async-not', 200],
  ].entries() as Iterable<[number, [string, number]]>) {
    assert.equal((await submit('ada', 'write', `p${i}`, note(i), { prefer })).status, status, prefer)
  }
})

test('OpenAPI says which ids, tokens and parts of keys are refused', async (t) => {
  const { call, submit } = await serveNotes(t)
  type Form = { pattern?: string; items?: Form }
  type Described = { name: string; schema: Form }
  const { paths } = (await (await call('admin', '/openapi.json')).json()) as {
    paths: Record<string, Record<string, { parameters: Described[] }>>
  }
  const patternOf = (path: string, method: string, name: string) => {
    const { schema } = paths[path]![method]!.parameters.find((each) => each.name === name)!
    const { pattern } = schema.items ?? schema
    assert.ok(pattern)
    return new RegExp(pattern, 'u')
  }
  const key = patternOf('/requests/feel', 'post', 'Idempotency-Key')
  const idsOf = [
    'a',
    '"a"',
    '"a b"',
    '"a',
    'a"b',
    'a b',
    '"a\\"b"',
    '"\\a"',
    '\\',
    '""',
    '"é"',
    "it's",
    ';a=1',
  ]
  for (const id of [...idsOf, 'x'.repeat(255), 'x'.repeat(256), `"${'x'.repeat(255)}"`]) {
    const header = Buffer.from(id).toString('latin1')
    const { status } = await submit('admin', 'feel', header, { owner: 'ada', mood: 'good' })
    assert.equal(status !== 400, key.test(id), id)
  }
  const path = patternOf('/requests/{id}', 'get', 'id')
  for (const id of ['z', '"', 'a b', 'é', 'z'.repeat(255), 'x'.repeat(256)]) {
    const { status } = await call('admin', `/requests/${encodeURIComponent(id)}`)
    assert.equal(status, path.test(id) ? 404 : 400, id)
  }
  const after = patternOf('/tables/notes/{key0}/{key1}', 'get', 'after')
  for (const [token, status] of [
    ['0:0', 404],
    ['0', 400],
    ['0:', 400],
    ['', 400],
  ] as const) {
    assert.equal((await call('admin', `/tables/notes/a/1?after=${token}`)).status, status, token)
    assert.equal(after.test(token), status === 404, token)
  }
  const whose = patternOf('/requests/{id}', 'get', 'principal')
  for (const name of ['ada', 'é', '', '\n', '\u007f', '\u0000']) {
    const { status } = await call('admin', `/requests/z?principal=${encodeURIComponent(name)}`)
    assert.equal(status, whose.test(name) ? 404 : 400, JSON.stringify(name))
  }
  for (const part of ['1', '-1.5', '1e3']) {
    assert.equal((await call('admin', `/tables/notes/a/${part}`)).status, 404, part)
  }
  for (const part of ['0x10', ' 1', '1 ', '+1', '.5', '1e999', 'Infinity', 'b']) {
    assert.equal((await call('admin', `/tables/notes/a/${encodeURIComponent(part)}`)).status, 422, part)
  }
})

test('system requests may have no other members than OpenAPI names', async (t) => {
  const { submit, engine } = await serveNotes(t)
  const before = engine.position()
  const redrive = { effect: 'e', key: 'k', reason: 'r' }
  const resolve = { violation: 'v', key: 'k', action: 'waive', reason: 'r' }
  for (const [type, input] of [
    ['hence:redrive', { ...redrive, mayRepat: true }],
    ['hence:resolve-violation', { ...resolve, unit: 1 }],
    ['hence:resolve-violation', { ...resolve, victims: [{ requestId: 'a b' }] }],
    ['hence:resolve-violation', { ...resolve, action: 'choose' }],
  ] as const) {
    assert.equal((await submit('operator', type, 'id', input)).status, 422, JSON.stringify(input))
  }
  assert.equal(engine.position(), before)
  assert.equal((await submit('operator', 'hence:redrive', 'id', redrive)).status, 409)
})

test('a system request with an invalid id is refused before the log', async (t) => {
  const { submit, engine } = await serveNotes(t)
  const before = engine.position()
  for (const victim of [
    { requestId: 'a b' },
    { requestId: 'é' },
    { requestId: 'x', principal: '\u0000' },
    null,
    1,
  ]) {
    const decision = { violation: 'v', key: 'k', action: 'choose', reason: 'r', victims: [victim] }
    const refused = await submit('operator', 'hence:resolve-violation', 'id', decision)
    assert.equal(refused.status, 422, JSON.stringify(victim))
  }
  const long = 'v'.repeat(1_900)
  const tooLong = { violation: long, key: 'k', action: 'waive', reason: 'r' }
  assert.equal((await submit('operator', 'hence:resolve-violation', 'id', tooLong)).status, 422)
  const redrive = { effect: long, key: 'k', reason: 'r' }
  assert.equal((await submit('operator', 'hence:redrive', 'id', redrive)).status, 422)
  assert.equal(engine.position(), before)
})

test('the host finds its session on the request of Node', async (t) => {
  const served = await serveNotes(t, {
    authenticate: (_, { incoming }) => {
      const { session } = incoming as unknown as { session?: string }
      return session === undefined ? undefined : { principal: session, permissions: ['submit'] }
    },
  })
  assert.equal((await served.call(undefined, '/tables/notes')).status, 401)
  const web = server(served.engine, {
    authenticate: (_, { incoming }) => ({
      principal: (incoming as unknown as { session: string }).session,
      permissions: [],
    }),
  })
  const host = createServer((request, response) => {
    web.node(Object.assign(request, { session: 'ada' }), response)
  })
  await once(host.listen(0), 'listening')
  t.after(() => host.close())
  const { port } = host.address() as { port: number }
  assert.equal((await fetch(`http://127.0.0.1:${port}/tables/notes`)).status, 200)
})

test('the host passes the caller with a request; a stream ends with the session', async (t) => {
  let now = 0
  const clock = { now: () => now }
  const sessions = new Set(['ada'])
  const served = await serveNotes(t, { clock, authenticate: () => undefined })
  for (const open of [false, true]) {
    const options = open ? ({ open } as const) : { authenticate: () => undefined }
    const web = server(served.engine, { ...options, clock, report: () => {}, limits: { heartbeatMs: 20 } })
    let asked = 0
    const host = createServer((request, response) => {
      const name = request.headers.cookie ?? ''
      const caller = () => {
        asked++
        return sessions.has(name) ? { principal: name, permissions: ['read'] } : undefined
      }
      web.node(request, response, () => response.end('next'), { caller })
    })
    await once(host.listen(0), 'listening')
    t.after(async () => {
      await web.close()
      host.closeAllConnections()
      host.close()
    })
    const url = `http://127.0.0.1:${(host.address() as { port: number }).port}`
    const ask = (cookie: string, path = '/tables/notes') => fetch(url + path, { headers: { cookie } })
    assert.equal((await ask('ada')).status, 200)
    assert.equal((await ask('bob')).status, 401)
    assert.equal((await ask('')).status, 401)
    assert.equal(await (await ask('', '/elsewhere')).text(), 'next')
    asked = 0
    sessions.add('carl')
    const stream = await ask('carl', '/changes')
    assert.equal(stream.status, 200)
    assert.equal(asked, 1)
    sessions.delete('carl')
    now += 1_000
    assert.match(await stream.text(), /event: problem\ndata: .*not-authenticated/)
    assert.equal(asked, 2)
  }
})

test('on another address it refuses to listen without keys', async (t) => {
  const web = await open(t)
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.com']) {
    await assert.rejects(web.listen({ host }), { code: 'listen-unsafe', advice: 'change' })
  }
  const safe = await open(t, { authenticate: () => undefined })
  const { port } = await safe.listen({ host: '0.0.0.0' })
  assert.equal((await fetch(`http://127.0.0.1:${port}/tables/notes`)).status, 401)
  await assert.rejects((await open(t)).listen({ port }), { code: 'listen-failed', advice: 'operator' })
})

test('a key gives its permissions and principal; no report contains its secret', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-server-'))
  t.after(() => rm(directory, { recursive: true }))
  const keys = join(directory, 'keys.json')
  const { secret } = await createKey(keys, { name: 'k', principal: 'ada', permissions: ['submit:write'] })
  const served = await serveNotes(t, { keys })
  const by = (authorization: string) =>
    served.call(undefined, '/tables/notes', { headers: { authorization } })
  assert.equal((await by(`Bearer ${secret}`)).status, 200)
  assert.equal((await by(`bearer ${secret}`)).status, 200)
  for (const wrong of [
    `Bearer ${secret}x`,
    `Basic ${secret}`,
    secret,
    'Bearer',
    `Bearer hence_${'A'.repeat(43)}`,
  ]) {
    assert.equal((await by(wrong)).status, 401, wrong)
  }
  const sent = await served.submit(undefined, 'write', 'id', note(1), { authorization: `Bearer ${secret}` })
  assert.equal(sent.status, 200)
  assert.equal((await served.engine.story('id', { principal: 'ada' }))?.type, 'write')
  assert.equal(
    (await served.submit(undefined, 'send', 'id2', {}, { authorization: `Bearer ${secret}` })).status,
    403,
  )
  // `authenticate` of the host works beside keys.
  assert.equal((await served.call('ada', '/tables/notes')).status, 200)
  assert.ok(!JSON.stringify(served.reports).includes(secret.slice(6)))
})

test('an unexpected error discloses nothing to the client, and is reported to the operator', async (t) => {
  const served = await serveNotes(t, {
    authenticate: () => {
      throw new Error('the database of users is gone: password=hunter2')
    },
  })
  const response = await served.call('ada', '/tables/notes')
  assert.equal(response.status, 500)
  const text = await response.text()
  assert.match(text, /internal-error/)
  assert.doesNotMatch(text, /database|hunter2/)
  assert.deepEqual(
    served.reports.map(({ level, code }) => [level, code]),
    [['alarm', 'internal-error']],
  )
})

test('bodies: too large, of another type, not UTF-8, with no end', async (t) => {
  const served = await serveNotes(t, { limits: { bodyBytes: 20_000 } })
  const hasty = await serveNotes(t, { limits: { bodyMs: 200 } })
  const send = (
    body: NonNullable<RequestInit['body']>,
    type = 'application/json',
    headers = {},
    { call } = served,
  ) =>
    call('ada', '/requests/write', {
      method: 'POST',
      headers: { 'content-type': type, 'idempotency-key': 'id', ...headers },
      body,
      duplex: 'half',
    } as RequestInit)
  const text = JSON.stringify(note(1))
  assert.equal((await send(text + ' '.repeat(20_000))).status, 413)
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(5_000)) })
  assert.equal((await send(endless)).status, 413)
  const silent = new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('{')) })
  assert.equal((await send(silent, 'application/json', {}, hasty)).status, 408)
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonx', '']) {
    assert.equal((await send(text, type)).status, 415, type)
  }
  assert.equal((await send(Uint8Array.from([0x22, 0xff, 0x22]))).status, 400)
  for (const encoding of ['gzip', 'br', 'deflate, gzip', 'Identity, gzip']) {
    const coded = await send(text, 'application/json', { 'content-encoding': encoding })
    assert.equal(coded.status, 415, encoding)
    assert.equal(((await coded.json()) as { code: string }).code, 'encoding-unsupported')
  }
  assert.equal((await send(text, 'application/json', { 'content-encoding': 'identity' })).status, 200)
  assert.equal((await send(text, 'application/vnd.shop+json; charset=utf-8')).status, 200)
  assert.equal((await send(text, 'application/json;a=b;Charset="UTF-8"')).status, 200)
  for (const charset of ['utf-16', '"utf-16"', 'latin1', 'utf-8x', '']) {
    const other = await send(text, `application/json; charset=${charset}`)
    assert.equal(other.status, 415, charset)
    assert.equal(((await other.json()) as { code: string }).code, 'media-type-unsupported')
  }
})

test('unknown addresses and methods are refused', async (t) => {
  const { call } = await serveNotes(t)
  for (const path of ['/', '/nope', '/requests/a/b', '/tables', '/openapi.json/x', '/requests/']) {
    assert.equal((await call('ada', path)).status, 404, path)
  }
  for (const [method, path, allow] of [
    ['DELETE', '/requests/write', 'POST, GET, HEAD'],
    ['PUT', '/tables/notes/a/1', 'GET, HEAD'],
    ['GET', '/requests', 'POST'],
    ['POST', '/livez', 'GET, HEAD'],
  ] as const) {
    const response = await call('ada', path, { method })
    assert.equal(response.status, 405, path)
    assert.equal(response.headers.get('allow'), allow)
  }
  const head = await call('ada', '/tables/notes', { method: 'HEAD' })
  assert.equal(head.status, 200)
  assert.equal(await head.text(), '')
})

test('CORS is off unless an origin is named', async (t) => {
  const closed = await serveNotes(t)
  const ask = { origin: 'https://shop.example', 'access-control-request-method': 'POST' }
  const refused = await closed.call(undefined, '/requests/write', { method: 'OPTIONS', headers: ask })
  assert.equal(refused.headers.get('access-control-allow-origin'), null)
  const opened = await serveNotes(t, { cors: { origins: ['https://shop.example'] } })
  const allowed = await opened.call(undefined, '/requests/write', { method: 'OPTIONS', headers: ask })
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://shop.example')
  assert.match(allowed.headers.get('access-control-allow-headers')!, /Idempotency-Key/)
  const read = await opened.call('ada', '/tables/notes', { headers: { origin: 'https://shop.example' } })
  assert.equal(read.headers.get('access-control-allow-origin'), 'https://shop.example')
  assert.match(read.headers.get('access-control-expose-headers')!, /Hence-Token/i)
  const other = await opened.call('ada', '/tables/notes', { headers: { origin: 'https://evil.example' } })
  assert.equal(other.headers.get('access-control-allow-origin'), null)
})

test('closing: requests under way are answered, new ones refused, then the port is free', async () => {
  const held = Promise.withResolvers<void>()
  const engine = await createEngine({ app: notes, data: memoryStorage(), report: () => {} })
  const submit = engine.submit.bind(engine)
  const arrived = Promise.withResolvers<void>()
  engine.submit = (async (...args: Parameters<typeof submit>) => {
    arrived.resolve()
    await held.promise
    return submit(...args)
  }) as never
  const web = server(engine, {
    report: () => {},
    authenticate: () => ({ principal: '', permissions: ['admin'] }),
  })
  const { url, port } = await web.listen()
  const send = (id: string) =>
    new Request(`${url}/requests/write`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': id },
      body: JSON.stringify(note(1)),
    })
  const underWay = fetch(send('a'))
  await arrived.promise
  assert.equal((await web.fetch(new Request(`${url}/readyz`))).status, 200)
  const closed = web.close()
  assert.equal(web.close(), closed)
  assert.equal((await web.fetch(new Request(`${url}/readyz`))).status, 503)
  assert.equal((await web.fetch(new Request(`${url}/livez`))).status, 200)
  const late = await web.fetch(send('b'))
  assert.equal(late.status, 503)
  assert.equal(late.headers.get('retry-after'), '1')
  assert.equal(((await late.json()) as { code: string }).code, 'server-closing')
  held.resolve()
  assert.equal((await underWay).status, 200)
  await closed
  const [error] = await once(connect(port, '127.0.0.1'), 'error')
  assert.equal(error.code, 'ECONNREFUSED')
  await engine.close()
})

test('invalid limits and paths are refused', async () => {
  const engine = await createEngine({ app: notes, data: memoryStorage() })
  for (const options of [
    { limits: { bodyBytes: 0 } },
    { limits: { bodyMs: 1.5 } },
    { limits: { nope: 1 } },
    { path: 'hence' },
    { path: '/hence/' },
    { path: '/a b' },
  ]) {
    assert.throws(() => server(engine, { open: true, ...options } as never), { code: 'option-invalid' })
  }
  await engine.close()
})

test('the OpenAPI document has the schemas of the app', async (t) => {
  const { call } = await serveNotes(t, { path: '' })
  const document = (await (await call('ada', '/openapi.json')).json()) as {
    openapi: string
    paths: Record<string, Record<string, Record<string, never>>>
  }
  assert.equal(document.openapi, '3.1.0')
  assert.deepEqual(Object.keys(document.paths).sort(), [
    '/audit/consistency',
    '/audit/head',
    '/changes',
    '/changes/hence.victims/{key0}/{key1}/{key2}',
    '/changes/hence.violations/{key0}/{key1}',
    '/changes/hence.waiters/{key0}/{key1}/{key2}',
    '/changes/inbox/{key0}/{key1}',
    '/changes/moods/{key0}',
    '/changes/notes/{key0}/{key1}',
    '/changes/totals/{key0}',
    '/console',
    '/console/{file}',
    '/effects',
    '/effects/{id}',
    '/livez',
    '/log',
    '/log/{token}',
    '/me',
    '/metrics',
    '/openapi.json',
    '/previews/hence:redrive',
    '/previews/hence:resolve-violation',
    '/readyz',
    '/reprocess',
    '/reprocess/diff',
    '/reprocess/discard',
    '/reprocess/pause',
    '/reprocess/promote',
    '/reprocess/resume',
    '/requests',
    '/requests/explode',
    '/requests/feel',
    '/requests/hence:redrive',
    '/requests/hence:resolve-violation',
    '/requests/send',
    '/requests/write',
    '/requests/{id}',
    '/requests/{id}/receipt',
    '/series',
    '/state',
    '/status',
    '/tables/hence.victims',
    '/tables/hence.victims/{key0}/{key1}/{key2}',
    '/tables/hence.violations',
    '/tables/hence.violations/{key0}/{key1}',
    '/tables/hence.waiters',
    '/tables/hence.waiters/{key0}/{key1}/{key2}',
    '/tables/inbox',
    '/tables/inbox/{key0}/{key1}',
    '/tables/moods',
    '/tables/moods/{key0}',
    '/tables/notes',
    '/tables/notes/{key0}/{key1}',
    '/tables/totals',
    '/tables/totals/{key0}',
    '/violations/{key}/{id}',
  ])
  const input = document.paths['/requests/write']!['post']!['requestBody']!['content']['application/json'][
    'schema'
  ] as {
    properties: { stars: object }
    required: string[]
  }
  assert.deepEqual(input.properties.stars, { type: 'integer', minimum: 0, maximum: 5, default: 0 })
  assert.deepEqual(input.required, ['number', 'text', 'owner'])
  assert.ok(!JSON.stringify(document).includes('"$schema"'))
})

test('metrics are labelled by route, never by path', async (t) => {
  const { call, submit } = await serveNotes(t)
  await submit('ada', 'write', 'm', note(1))
  await submit('ada', 'write', 'm', note(1))
  await call('ada', '/tables/notes/secret-name/1')
  const text = await (await call('operator', '/metrics')).text()
  assert.match(
    text,
    /^hence_http_responses_total\{method="POST",route="\/requests\/:type",status="200"\} 2$/m,
  )
  assert.match(text, /^hence_submit_seconds_count 2$/m)
  assert.match(text, /^hence_replies_total\{outcome="replayed"\} 1$/m)
  assert.match(text, /^hence_records_applied\{partition="0"\} 2$/m)
  assert.doesNotMatch(text, /secret-name/)
  for (const line of text.trim().split('\n')) {
    assert.match(line, /^(# (HELP|TYPE) hence_\w+ .+|hence_\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+)$/)
  }
})

test('OpenTelemetry: one span per request, with its id, in the trace of the caller', async (t) => {
  const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = await import(
    '@opentelemetry/sdk-trace-base'
  )
  const { context, propagation } = await import('@opentelemetry/api')
  const { W3CTraceContextPropagator } = await import('@opentelemetry/core')
  const exporter = new InMemorySpanExporter()
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  )
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  t.after(() => {
    trace.disable()
    context.disable()
    propagation.disable()
  })
  const { submit } = await serveNotes(t)
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  await submit('ada', 'write', '"traced"', note(1), { traceparent: `00-${traceId}-b7ad6b7169203331-01` })
  const [span] = exporter.getFinishedSpans()
  assert.equal(span?.name, 'POST /requests/:type')
  assert.equal(span?.spanContext().traceId, traceId)
  assert.equal(span?.parentSpanContext?.spanId, 'b7ad6b7169203331')
  assert.equal(span?.attributes['hence.request_id'], 'traced')
  assert.equal(span?.attributes['hence.token'], '0:1')
  assert.equal(span?.attributes['http.response.status_code'], 200)
})
