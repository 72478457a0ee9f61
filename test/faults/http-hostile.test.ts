import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { mebibyte, openMany, start } from './http-victim.ts'

// Hostile clients. None of them may cause a 5xx that is the server's fault, fill its memory, or keep it from
// serving others.

test('10,000 connections that send a request byte by byte, or nothing, or half a body', async (t) => {
  const victim = await start(t, { headMs: 60_000, bodyMs: 60_000, connections: 9_000 })
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const head =
    'POST /requests/write HTTP/1.1\r\nhost: localhost\r\nauthorization: Test ada\r\nidempotency-key: x\r\n'
  const says = [
    '',
    'P',
    head,
    `${head}content-type: application/json\r\ncontent-length: 5000\r\n\r\n{"owner":`,
  ]
  const sockets = await openMany(victim.port, 10_000, (i) => says[i % says.length]!)
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  for (let i = 0; i < 20; i++) await victim.assertHealthy()
  const { residentBytes, reports } = await victim.inspect()
  t.diagnostic(`${Math.round((residentBytes - before) / mebibyte)} MiB for 10,000 slow connections`)
  assert.ok(residentBytes - before < 400 * mebibyte, `${residentBytes - before} bytes`)
  assert.deepEqual(reports, [])
})

test('slow clients are cut off in time: a head that never ends, a body that never arrives', async (t) => {
  const victim = await start(t, { headMs: 300, bodyMs: 300, idleMs: 300 })
  const head =
    'POST /requests/write HTTP/1.1\r\nhost: x\r\nauthorization: Test ada\r\nidempotency-key: x\r\ncontent-type: application/json\r\n'
  const cases: readonly [says: string, answer: RegExp][] = [
    ['', /^(HTTP\/1.1 408 |$)/],
    ['GET / HT', /^HTTP\/1.1 408 /],
    [head, /^HTTP\/1.1 408 /],
    [`${head}content-length: 100\r\n\r\n{`, /^HTTP\/1.1 408 .*body-too-slow/s],
    [`${head}content-length: 100000\r\n\r\n{`, /^HTTP\/1.1 408 .*body-too-slow/s],
    [`${head}transfer-encoding: chunked\r\n\r\n1\r\n{\r\n`, /^HTTP\/1.1 408 .*body-too-slow/s],
    ['GET /livez HTTP/1.1\r\nhost: x\r\n\r\n', /^HTTP\/1.1 200 .*live\n$/s],
  ]
  await Promise.all(
    cases.map(async ([says, answer]) => {
      const [socket] = await openMany(victim.port, 1, () => says)
      let text = ''
      socket!.setEncoding('latin1').on('data', (part) => {
        text += part
      })
      await once(socket!, 'close')
      assert.match(text, answer, JSON.stringify(says.slice(0, 40)))
    }),
  )
  await victim.assertHealthy()
})

test('a body of 1 GiB is cut at the limit, with or without a declared length, as a request or a batch', async (t) => {
  const victim = await start(t)
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const send = async (path: string, type: string, length: string, part: Buffer) => {
    const socket = connect(victim.port, '127.0.0.1')
    let text = ''
    let isClosed = false
    socket.on('data', (data) => {
      text += data
    })
    socket.on('error', () => {})
    let wake = () => {}
    socket.on('drain', () => wake())
    socket.on('close', () => {
      isClosed = true
      wake()
    })
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Test admin\r\nidempotency-key: big\r\ncontent-type: ${type}\r\n${length}\r\n\r\n`,
    )
    let sent = 0
    const chunk = length.startsWith('transfer')
      ? Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')])
      : part
    while (sent < 1024 * mebibyte && !isClosed) {
      sent += part.length
      if (socket.write(chunk) || isClosed) continue
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    socket.destroy()
    return { text, sent }
  }
  const part = Buffer.alloc(mebibyte, 0x20)
  for (const [path, type, length, expected] of [
    ['/requests/write', 'application/json', `content-length: ${1024 * mebibyte}`, /^HTTP\/1.1 413 /],
    ['/requests/write', 'application/json', 'transfer-encoding: chunked', /^HTTP\/1.1 413 /],
    ['/requests', 'application/x-ndjson', 'transfer-encoding: chunked', /body-too-large/],
    ['/nope', 'application/json', `content-length: ${1024 * mebibyte}`, /^HTTP\/1.1 404 /],
  ] as const) {
    const { text, sent } = await send(path, type, length, part)
    assert.match(text, expected)
    t.diagnostic(`${path}, ${length}: cut after ${Math.round(sent / mebibyte)} MiB`)
    assert.ok(sent < 1024 * mebibyte, `${path}: all of it was read`)
    await victim.assertHealthy()
  }
  const { residentBytes, reports } = await victim.inspect()
  assert.ok(residentBytes - before < 200 * mebibyte, `${residentBytes - before} bytes`)
  assert.deepEqual(reports, [])
})

type Schema = Record<string, never> & {
  type?: string
  enum?: unknown[]
  properties?: Record<string, Schema>
  items?: Schema
  required?: string[]
}

type Contents = Record<string, { schema: Schema }>

/** Values that mostly match a schema of the document; now and then one is out of bounds. */
function fitting(schema: Schema): fc.Arbitrary<unknown> {
  const anything = fc.oneof({ weight: 1, arbitrary: fc.jsonValue() })
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const fits = {
    string: () =>
      fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constantFrom('', '__proto__', '..', '\0')),
    integer: () => fc.oneof(fc.integer({ min: -1, max: 9 }), fc.maxSafeInteger()),
    number: () => fc.double({ noNaN: true, noDefaultInfinity: true }),
    boolean: () => fc.boolean(),
    array: () => fc.array(fitting(schema.items ?? ({} as Schema)), { maxLength: 3 }),
    object: () =>
      fc.record(
        Object.fromEntries(
          Object.entries(schema.properties ?? {}).map(([name, each]) => [name, fitting(each)]),
        ),
        { requiredKeys: (schema.required ?? []) as never },
      ),
  }[schema.type ?? ''] as (() => fc.Arbitrary<unknown>) | undefined
  return fits ? fc.oneof({ weight: 12, arbitrary: fits() }, anything) : anything
}

test("random requests from the OpenAPI document: no answer is a 5xx, except the app's own", async (t) => {
  // Connections are used again, and a pause in between closes none.
  const victim = await start(t, { heartbeatMs: 1_000, bodyMs: 1_000, idleMs: 3_600_000 })
  const headers = { authorization: 'Test admin' }
  const document = (await (await fetch(`${victim.url}/openapi.json`, { headers })).json()) as {
    paths: Record<
      string,
      Record<
        string,
        {
          parameters?: ({ name: string; in: string } & ({ schema: Schema } | { content: Contents }))[]
          requestBody?: { content: Contents }
        }
      >
    >
  }
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      path,
      method: method.toUpperCase(),
      ...operation,
    })),
  )
  const rough = fc.oneof(
    fc.string(),
    fc.json(),
    fc
      .array(fc.oneof(fc.string(), fc.integer(), fc.boolean()), { maxLength: 3 })
      .map((parts) => JSON.stringify(parts)),
    fc.constantFrom('0:0', '0:1', '[]', '{}', '-1', 'true', '%', '0', '9'.repeat(30)),
  )
  const headerValue = fc.oneof(
    fc.uuid().map((id) => `"${id}"`),
    fc.string({ unit: fc.constantFrom(...'abc"\\;,= 0:é') }).filter((text) => /^[\x20-\xff]*$/.test(text)),
  )
  const request = fc.constantFrom(...operations).chain(({ path, method, parameters = [], requestBody }) => {
    const body = requestBody
      ? fc.oneof(
          {
            weight: 6,
            arbitrary: fitting(Object.values(requestBody.content)[0]!.schema).map((value) =>
              JSON.stringify(value),
            ),
          },
          { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 200 }) },
          { weight: 1, arbitrary: fc.json() },
        )
      : fc.constant(undefined)
    const given = fc.record(
      Object.fromEntries(
        parameters.map((each) => {
          const value =
            'schema' in each
              ? fitting(each.schema).map((json) =>
                  typeof json === 'object' ? JSON.stringify(json) : String(json),
                )
              : fitting(each.content['application/json']!.schema).map((json) => JSON.stringify(json))
          return [each.name, each.in === 'header' ? headerValue : fc.oneof(rough, value)]
        }),
      ),
      { requiredKeys: parameters.filter((each) => each.in === 'path').map(({ name }) => name) as never },
    )
    return fc.record({ given, body }).map(({ given: values, body: text }) => {
      const all = values as Record<string, string>
      const query = new URLSearchParams()
      const more: Record<string, string> = {
        'content-type': requestBody ? Object.keys(requestBody.content)[0]! : 'text/plain',
      }
      let at = path
      for (const { name, in: place } of parameters) {
        if (all[name] === undefined) continue
        if (place === 'query') query.append(name, all[name].toWellFormed())
        else if (place === 'header') more[name] = all[name]
        else at = at.replace(`{${name}}`, encodeURIComponent(all[name].toWellFormed()))
      }
      return { url: `${at}${query.size > 0 ? `?${query}` : ''}`, method, headers: more, body: text }
    })
  })
  await victim.assertHealthy()
  const before = (await victim.inspect()).residentBytes
  const seen = new Map<number, number>()
  const numRuns = Number(process.env['HENCE_RUNS'] ?? 700)
  await fc.assert(
    fc.asyncProperty(request, async ({ url, method, headers: more, body }) => {
      const controller = new AbortController()
      const response = await fetch(victim.url + url, {
        method,
        headers: { ...headers, ...more },
        ...(body !== undefined && { body }),
        signal: controller.signal,
      })
      seen.set(response.status, (seen.get(response.status) ?? 0) + 1)
      if (response.headers.get('content-type') === 'text/event-stream') {
        controller.abort()
        return
      }
      const text = await response.text()
      if (response.status < 500) {
        if (response.status >= 400)
          assert.equal(response.headers.get('content-type'), 'application/problem+json')
        return
      }
      const problem = JSON.parse(text) as { outcome?: string; code: string }
      assert.equal(problem.outcome, 'failed', `${method} ${url}: ${text}`)
    }),
    { numRuns },
  )
  t.diagnostic(`statuses: ${JSON.stringify(Object.fromEntries([...seen].sort()))}`)
  assert.ok((seen.get(200) ?? 0) > numRuns / 30, 'hardly any request was valid')
  const { residentBytes, reports } = await victim.inspect()
  assert.ok(residentBytes - before < 200 * mebibyte, `${residentBytes - before} bytes`)
  assert.deepEqual(
    reports.filter(({ code }) => !['derivation-failed', 'read-rule-threw'].includes(code)),
    [],
  )
  await victim.assertHealthy()
})

test('bytes that are not valid HTTP', async (t) => {
  const victim = await start(t, { headMs: 500, bodyMs: 500 })
  const hostile = [
    'GET / HTTP/9.9\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'GET http://evil.example/tables/notes HTTP/1.1\r\nhost: localhost\r\n\r\n',
    'GET //evil.example/tables HTTP/1.1\r\nhost: localhost\r\n\r\n',
    'GET /tables/notes HTTP/1.1\r\n\r\n',
    'GET /tables/notes HTTP/1.1\r\nhost: a b\r\n\r\n',
    'GET /tables/notes HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n',
    `GET /tables/notes HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    'POST /requests/write HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    'POST /requests/write HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n',
    'POST /requests/write HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    'CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n',
    'TRACE / HTTP/1.1\r\nhost: a\r\n\r\n',
    'OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n',
    'GET /tables/notes HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
  ]
  await Promise.all(
    hostile.map(async (bytes) => {
      const socket = connect(victim.port, '127.0.0.1')
      socket.on('error', () => {})
      let text = ''
      socket.on('data', (part) => {
        text += part
      })
      socket.end(bytes, 'latin1')
      await once(socket, 'close')
      assert.doesNotMatch(text, /^HTTP\/1.1 5/, JSON.stringify(bytes.slice(0, 60)))
    }),
  )
  assert.deepEqual((await victim.inspect()).reports, [])
  await victim.assertHealthy()
})
