import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { createEngine } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import type * as texts from '../../test/apps/long-texts.ts'
import { appsOf } from '../../test/apps.ts'
import type * as made from '../../test/server/loud.ts'
import { callers, serve, serveNotes } from '../../test/server/serve.ts'

// Pages, stories and outcomes are bounded in bytes.

const mebibyte = 1024 * 1024
const longTexts = await appsOf<typeof texts>(import.meta.resolve('../../test/apps/long-texts.ts')).default()
const loud = await appsOf<typeof made>(import.meta.resolve('../../test/server/loud.ts')).default()

/** Serves an app whose rows, effects and replies repeat what they are sent. */
async function serveLoud(t: TestContext) {
  const engine = await createEngine({ app: loud, data: memoryStorage(), report: () => {} })
  const served = await serve(t, engine, callers)
  /** Several people each say something long. */
  const say = async (count: number, length: number) => {
    for (let i = 0; i < count; i++) {
      await engine.submit('say', { who: `p${i}`, text: `${i}`.repeat(length) }, { requestId: `s${i}` })
    }
  }
  return { engine, say, ...served }
}

/** The bytes and the number of items of each page. */
async function pages(call: (path: string) => Promise<Response>, path: string, name: string) {
  const found: { bytes: number; items: Record<string, never>[] }[] = []
  for (let cursor: string | undefined = ''; cursor !== undefined; ) {
    const response = await call(cursor === '' ? path : `${path}&cursor=${cursor}`)
    assert.equal(response.status, 200)
    const text = await response.text()
    const page = JSON.parse(text) as Record<string, never> & { cursor?: string }
    found.push({ bytes: Buffer.byteLength(text), items: page[name]! as never })
    cursor = page.cursor
  }
  return found
}

test('a page of rows ends after 1 MiB, in every order, and the next goes on there', async (t) => {
  const { engine, call } = await serveNotes(t)
  for (let number = 0; number < 120; number++) {
    const input = { owner: 'ada', number, text: 'ä'.repeat(9_000), stars: number % 3 }
    await engine.submit('write', input, { requestId: `w${number}` })
  }
  for (const query of ['', '&reverse=true', '&index=byStars', '&index=byStars&reverse=true']) {
    const found = await pages((path) => call('reader', path), `/tables/notes?limit=1000${query}`, 'rows')
    assert.equal(found.length, 3, query)
    for (const { bytes } of found) assert.ok(bytes < mebibyte + 1_000, `${bytes}`)
    const whole = await engine.scan('notes', {
      ...(query.includes('index') && { index: 'byStars' }),
      reverse: query.includes('reverse'),
    })
    assert.deepEqual(
      found.flatMap(({ items }) => items),
      whole,
    )
  }
})

test('a page has one row at least, also behind a cursor', async (t) => {
  const { say, call } = await serveLoud(t)
  await say(4, 900_000)
  const found = await pages((path) => call('reader', path), '/tables/said?limit=1000', 'rows')
  assert.deepEqual(
    found.map(({ items }) => items.map(({ key }) => key)),
    [0, 1, 2, 3].map((i) => [[`p${i}`]]),
  )
})

test('a scan for a page reads one row behind the page and no more', async (t) => {
  const { say, engine } = await serveLoud(t)
  await say(5, 10)
  const seen: unknown[] = []
  const rows = await engine.scan('said', {}, { until: ({ key }) => seen.push(key) === 2 })
  assert.equal(rows.length, 2)
  assert.equal(seen.length, 2)
})

test('a page of effects ends after 1 MiB', async (t) => {
  const { say, engine, call } = await serveLoud(t)
  await say(6, 400_000)
  const whole = await engine.effects.list()
  for (const [query, counts] of [
    ['', [2, 2, 2]],
    ['&type=call', [2, 2, 2]],
    ['&limit=1', [1, 1, 1, 1, 1, 1]],
  ] as const) {
    const found = await pages((path) => call('operator', path), `/effects?state=pending${query}`, 'effects')
    assert.deepEqual(
      found.map(({ items }) => items.length),
      counts,
    )
    assert.deepEqual(
      found.flatMap(({ items }) => items.map(({ id }) => id)),
      whole.map(({ id }) => id),
    )
  }
  for (const cursor of ['', 'W10', 'WzEsMiwzXQ', 'x']) {
    assert.equal((await call('operator', `/effects?cursor=${cursor}`)).status, 400, cursor)
  }
})

test('a story that is too large is refused', async (t) => {
  const { say, engine, call } = await serveLoud(t)
  await say(1, 900_000)
  await engine.idle()
  assert.equal((await call('reader', '/requests/s0?principal=')).status, 200)
  await assert.rejects(engine.story('s0', { bytesMax: mebibyte }), { code: 'story-too-large' })
  assert.ok(await engine.story('s0', { bytesMax: 2 * mebibyte }))
})

test('answers that nobody has read count against the share of their caller', async (t) => {
  const { say, engine } = await serveLoud(t)
  await say(1, 900_000)
  // Without connections, whose buffers would take a part of the answers.
  const web = server(engine, {
    authenticate: (request) => callers[request.headers.get('authorization')!],
    limits: { bodiesBytesPerCaller: 2_500_000 },
    report: () => {},
  })
  t.after(() => web.close())
  const call = (who: string, path: string, method = 'GET') =>
    web.fetch(new Request(`http://hence.example${path}`, { method, headers: { authorization: who } }))
  const path = '/tables/said?limit=1000'
  const whole = await (await call('reader', path)).text()
  const bytes = async () => {
    const text = await (await call('admin', '/metrics')).text()
    return Number(/^hence_body_bytes (\d+)$/m.exec(text)![1])
  }
  assert.equal(await bytes(), 0)
  const [first, second] = [await call('reader', path), await call('reader', path)]
  assert.equal(first.headers.get('content-length'), String(whole.length))
  assert.equal(await bytes(), 2 * whole.length)
  const refused = await call('reader', path)
  assert.equal(refused.status, 503)
  assert.equal(((await refused.json()) as { code: string }).code, 'overloaded')
  const others = await call('admin', path)
  assert.equal(others.status, 200, 'others have their own share')
  await others.body!.cancel()
  assert.equal(await first.text(), whole)
  assert.equal(await bytes(), whole.length)
  await second.body!.cancel()
  assert.equal(await (await call('reader', path)).text(), whole)
  const head = await call('reader', path, 'HEAD')
  assert.equal(head.headers.get('content-length'), String(whole.length))
  assert.equal(await bytes(), 0)
})

test('an answer beyond the share takes all of it', async (t) => {
  const { say, engine } = await serveLoud(t)
  await say(1, 900_000)
  const limits = { bodiesBytesPerCaller: 100_000 }
  const { call } = await serve(t, engine, callers, { limits })
  for (let i = 0; i < 2; i++) {
    const row = (await (await call('reader', '/tables/said/p0')).json()) as { value: { text: string } }
    assert.equal(row.value.text.length, 900_000)
  }
})

test('an answer whose client has left is given up', async (t) => {
  const { say, call, url } = await serveLoud(t)
  await say(1, 900_000)
  for (let i = 0; i < 10; i++) {
    const request = get(`${url}/tables/said`, { headers: { authorization: 'Test reader' }, agent: false })
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.destroy()
  }
  const isHeld = async () => !/^hence_body_bytes 0$/m.test(await (await call('admin', '/metrics')).text())
  while (await isHeld()) await new Promise(setImmediate)
})

test('a long answer arrives whole, whatever characters its parts end with', async (t) => {
  const { engine, call } = await serveLoud(t)
  for (const shift of ['', 'x']) {
    const text = shift + '😀ä'.repeat(80_000)
    await engine.submit('say', { who: `p${shift}`, text }, { requestId: `s${shift}` })
    const row = (await (await call('reader', `/tables/said/p${shift}`)).json()) as { value: { text: string } }
    assert.equal(row.value.text, text)
  }
})

test('outcomes of a batch that its client does not read are bounded in bytes; the rest arrive when sent again', async (t) => {
  const engine = await createEngine({ app: longTexts, data: memoryStorage(), report: () => {} })
  const limits = { bodiesBytesPerCaller: 4 * mebibyte }
  const { call, close } = await serve(t, engine, callers, { limits })
  const line = (i: number) =>
    `${JSON.stringify({ requestId: `r${i}`, type: 'say', input: { box: `b${i % 5}`, length: 300_000 + i } })}\n`
  const bytes = async () =>
    Number(/^hence_body_bytes (\d+)$/m.exec(await (await call('operator', '/metrics')).text())![1])
  // The connection of the client holds a part of them.
  const lengths = new Map<string, number>()
  let rounds = 0
  for (let left = Array.from({ length: 60 }, (_, i) => i); left.length > 0; rounds++) {
    const response = await call('admin', '/requests', {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: left.map(line).join(''),
    })
    while (rounds === 0 && engine.stats().replies.accepted < 60) await new Promise(setImmediate)
    const held = await bytes()
    assert.ok(held <= 5 * mebibyte, `${held} bytes`)
    const answers = (await response.text())
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text))
    assert.deepEqual(
      answers.map(({ requestId }) => requestId),
      left.map((i) => `r${i}`),
    )
    for (const { requestId, value, problem } of answers)
      if (problem === undefined) lengths.set(requestId, value.length)
      else assert.equal(problem.code, 'overloaded')
    left = left.filter((i) => !lengths.has(`r${i}`))
  }
  assert.ok(rounds > 1, 'all outcomes had room')
  for (const [requestId, length] of lengths) assert.equal(length, 300_000 + Number(requestId.slice(1)))
  assert.equal(await bytes(), 0)
  await close()
})
