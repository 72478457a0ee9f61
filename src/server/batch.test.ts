import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HandClock } from '../../test/hand-clock.ts'
import { type Served, serveNotes } from '../../test/server/serve.ts'
import { createEngine } from '../engine/open-engine.ts'
import { HenceError } from '../failure.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { problemOf } from './problem.ts'
import { server } from './server.ts'

interface LineAnswer {
  readonly requestId?: string
  readonly status: 'accepted' | 'problem'
  readonly replayed?: boolean
  readonly problem?: { readonly code: string; readonly status: number; readonly outcome?: string }
}

function post({ call }: Served, body: string | ReadableStream<Uint8Array>): Promise<Response> {
  return call('admin', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body,
    duplex: 'half',
  } as RequestInit)
}

async function send(served: Served, body: string | ReadableStream<Uint8Array>): Promise<LineAnswer[]> {
  const response = await post(served, body)
  assert.equal(response.status, 200)
  return (await response.text())
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

const wish = (id: string, number: number, owner = 'ada') =>
  JSON.stringify({ requestId: id, type: 'write', input: { owner, number, text: 'x' } })

test('outcomes arrive in the order of the lines, accepted or not', async (t) => {
  const served = await serveNotes(t, { partitions: 3 })
  const lines: [line: string, expected: string][] = [
    [wish('1', 1), 'accepted'],
    [wish('1', 1), 'accepted'],
    [wish('1', 2), 'request-id-reused'],
    [wish('2', 1), 'rejected'],
    ['{', 'json-invalid'],
    ['{"requestId":"3","type":"write","input":{},"input":{}}', 'json-invalid'],
    ['[]', 'line-invalid'],
    ['null', 'line-invalid'],
    ['{"requestId":3,"type":"write","input":{}}', 'line-invalid'],
    ['{"requestId":"3","type":"write"}', 'line-invalid'],
    ['{"requestId":"3","type":"write","input":{},"x":1}', 'line-invalid'],
    ['{"requestId":"a b","type":"write","input":{"owner":"a","number":1,"text":""}}', 'request-id-invalid'],
    ['{"requestId":"3","type":"nope","input":{}}', 'unknown-request'],
    ['{"requestId":"3","type":"write","input":{}}', 'input-invalid'],
    ['{"requestId":"4","type":"explode","input":{"owner":"ada"}}', 'derivation-threw'],
    [`  ${wish('5', 5, 'bob')}  `, 'accepted'],
    [wish('6', 6, 'zoe'), 'accepted'],
  ]
  const answers = await send(served, `\n${lines.map(([line]) => line).join('\r\n')}\n\n`)
  assert.deepEqual(
    answers.map(({ status, problem }) => problem?.code ?? status),
    lines.map(([, expected]) => expected),
  )
  assert.deepEqual([answers[0]!.replayed, answers[1]!.replayed], [false, true])
  assert.equal(answers[3]!.problem!.outcome, 'rejected')
  assert.equal(answers[14]!.problem!.outcome, 'failed')
})

test('an answer repeats little of a line, however long that is', async (t) => {
  const served = await serveNotes(t)
  const long = 'x'.repeat(500_000)
  const line = (more: object) => JSON.stringify({ requestId: 'id', type: 'write', input: {}, ...more })
  const refused = {
    type: 'unknown-request',
    id: 'request-id-invalid',
    name: 'json-invalid',
  }
  const lines = [
    line({ type: long }),
    line({ requestId: long }),
    line({}).replace('{}', `{"${long}":1,"${long}":2}`),
  ]
  const answers = await send(served, lines.join('\n'))
  for (const [i, [what, code]] of Object.entries(refused).entries()) {
    assert.equal(answers[i]!.problem?.code, code, what)
    assert.ok(JSON.stringify(answers[i]).length < 6_000, what)
  }
  const notYours = await served.call('bob', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: line({ type: long }),
  })
  const text = await notYours.text()
  assert.match(text, /not-allowed/)
  assert.ok(text.length < 1_000)
  const body = JSON.stringify({ [long]: 1 })
  const headers = { 'content-type': 'application/json' }
  const strict = await served.call('admin', '/reprocess/pause', { method: 'POST', headers, body })
  assert.equal(strict.status, 400)
  assert.ok((await strict.text()).length < 1_000)
  // Schemas of apps write what they like.
  assert.ok(problemOf(new HenceError('input-invalid', 'change', long)).detail.length < 6_000)
})

test('the last line needs no newline, and a batch may arrive in parts of any length', async (t) => {
  const served = await serveNotes(t)
  const bytes = Buffer.from(Array.from({ length: 30 }, (_, i) => wish(`c${i}`, i, 'é😀')).join('\n'))
  let at = 0
  let step = 1
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) return controller.close()
      controller.enqueue(bytes.subarray(at, at + step))
      at += step
      step = (step % 97) + 1
    },
  })
  const answers = await send(served, body)
  assert.deepEqual(
    answers.map(({ requestId, status }) => [requestId, status]),
    Array.from({ length: 30 }, (_, i) => [`c${i}`, 'accepted']),
  )
})

test('a byte order mark at the beginning is no part of the first line', async (t) => {
  const served = await serveNotes(t)
  const answers = await send(served, `\ufeff${wish('1', 1)}\n${wish('2', 2)}\n\ufeff${wish('3', 3)}`)
  assert.deepEqual(
    answers.map(({ status, problem }) => problem?.code ?? status),
    ['accepted', 'accepted', 'json-invalid'],
  )
})

test('outcomes are sent while the body is still arriving', async (t) => {
  const served = await serveNotes(t)
  const encoder = new TextEncoder()
  let feed!: ReadableStreamDefaultController<Uint8Array>
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      feed = controller
    },
  })
  feed.enqueue(encoder.encode(`${wish('1', 1)}\n`))
  const response = await post(served, body)
  const reader = response.body!.getReader()
  for (let i = 2; i < 6; i++) {
    const { value } = await reader.read()
    assert.match(new TextDecoder().decode(value), new RegExp(`"requestId":"${i - 1}"`))
    feed.enqueue(encoder.encode(`${wish(String(i), i)}\n`))
  }
  feed.close()
  await reader.read()
  assert.ok((await reader.read()).done)
})

test('a batch waits for an overloaded engine: no line is refused', async (t) => {
  const served = await serveNotes(t, { queueBytesMax: 2_000 })
  const answers = await send(served, Array.from({ length: 500 }, (_, i) => wish(`o${i}`, i)).join('\n'))
  assert.equal(answers.filter(({ status }) => status === 'accepted').length, 500)
})

/** A request that shows that it came through a proxy. */
const byProxy = { 'content-type': 'application/x-ndjson', 'x-forwarded-for': '203.0.113.9' }

const tick = () => new Promise(setImmediate)

test('through a proxy the answer begins when the body has arrived', async (t) => {
  const { engine, call } = await serveNotes(t, { limits: { batchInFlight: 4 } })
  let isAnswered = false
  const count = 20
  let at = 0
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      // The line before is decided, and its outcome kept.
      while (at > 0 && (await engine.get('notes', ['ada', at - 1])) === undefined) await tick()
      assert.ok(!isAnswered, `answered after ${at} lines`)
      if (at === count) controller.close()
      else controller.enqueue(Buffer.from(`${wish(`p${at}`, at++)}\n`))
    },
  })
  const init = { method: 'POST', headers: byProxy, body, duplex: 'half' }
  const response = await call('admin', '/requests', init as RequestInit)
  isAnswered = true
  const answers = (await response.text()).trim().split('\n')
  assert.deepEqual(
    answers.map((line) => JSON.parse(line).requestId),
    Array.from({ length: count }, (_, i) => `p${i}`),
  )
})

test('a client that leaves before its answer begins leaves nothing behind', async (t) => {
  const { engine, call } = await serveNotes(t, { limits: { stalledMs: 100 } })
  const leaving = new AbortController()
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(Buffer.from(`${wish('l', 1)}\n`)),
  })
  const init = { method: 'POST', headers: byProxy, body, duplex: 'half', signal: leaving.signal }
  const sent = call('admin', '/requests', init as RequestInit)
  while ((await engine.get('notes', ['ada', 1])) === undefined) await tick()
  leaving.abort()
  await assert.rejects(sent)
  let metrics = ''
  while (!/^hence_batches 0$/m.test(metrics)) metrics = await (await call('operator', '/metrics')).text()
  assert.match(metrics, /^hence_body_bytes 0$/m)
})

test('the bytes of a client that leaves in the middle of a line are counted no longer', async (t) => {
  const clock = new HandClock()
  const { promise: asked, resolve: askedAgain } = Promise.withResolvers<void>()
  const { promise: found, resolve: find } = Promise.withResolvers<void>()
  let times = 0
  const { call } = await serveNotes(t, {
    clock,
    async authenticate({ url }) {
      if (!url.endsWith('/metrics') && ++times > 1) {
        askedAgain()
        await found
      }
      return { principal: 'ada', permissions: ['admin'] }
    },
  })
  const gauge = async (name: string) => {
    const text = await (await call(undefined, '/metrics')).text()
    return new RegExp(`^hence_${name} (.*)$`, 'm').exec(text)![1]
  }
  let to!: ReadableStreamDefaultController<Uint8Array>
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      to = controller
    },
  })
  const leaving = new AbortController()
  const headers = { 'content-type': 'application/x-ndjson' }
  const init = { method: 'POST', headers, body, duplex: 'half', signal: leaving.signal }
  const left = call(undefined, '/requests', init as RequestInit).then((sent) => sent.text())
  to.enqueue(Buffer.from('{'))
  while ((await gauge('body_bytes')) !== '1') await tick()
  // The line waits until the host has found its sender again; behind it is a part of the next.
  clock.pass(2_000)
  to.enqueue(Buffer.from('}\n{"requestId":'))
  await asked
  leaving.abort()
  await assert.rejects(left)
  while ((await gauge('batches')) !== '0') await tick()
  find()
  await tick()
  assert.equal(await gauge('body_bytes'), '0')
})

test('outcomes that wait for the end of a body have the bound of their caller, and end the batch there', async (t) => {
  const { call, engine } = await serveNotes(t, { limits: { bodiesBytesPerCaller: 20_000 } })
  const lines = Array.from({ length: 500 }, (_, i) => wish(`q${i}`, i))
  const send = async (from: number) => {
    const body = lines.slice(from).join('\n')
    const response = await call('admin', '/requests', { method: 'POST', headers: byProxy, body })
    const text = await response.text()
    assert.ok(text.length < 30_000, `${text.length} characters`)
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as LineAnswer)
  }
  let done = 0
  while (done < lines.length) {
    const answers = await send(done)
    const accepted = answers.filter(({ status }) => status === 'accepted')
    done += accepted.length
    if (done === lines.length) break
    assert.ok(accepted.length > 50, `${accepted.length} were accepted`)
    assert.equal(answers.at(-1)!.problem?.code, 'overloaded')
  }
  assert.equal((await engine.scan('notes', { prefix: ['ada'], limit: 1_000 })).length, 500)
})

test('an outcome without room is refused, and is there when its request is sent again', async (t) => {
  const engine = await createEngine({
    app: import.meta.resolve('../../test/apps/long-texts.ts'),
    data: memoryStorage(),
    report: () => {},
  })
  t.after(() => engine.close())
  const limits = { bodiesBytesPerCaller: 30_000 }
  const authenticate = () => ({ principal: 'ada', permissions: ['submit'] })
  const { fetch } = server(engine, { authenticate, limits, report: () => {} })
  const ids = Array.from({ length: 20 }, (_, i) => `r${i}`)
  const answers = new Map<string, LineAnswer>()
  let rounds = 0
  for (let left = ids; left.length > 0; rounds++) {
    const body = left.map((id) =>
      JSON.stringify({ requestId: id, type: 'say', input: { box: id, length: 9_000 } }),
    )
    const headers = { 'content-type': 'application/x-ndjson' }
    const request = new Request('http://localhost/requests', {
      method: 'POST',
      headers,
      body: body.join('\n'),
    })
    const found = (await (await fetch(request)).text()).trimEnd().split('\n')
    const lines = found.map((line) => JSON.parse(line) as LineAnswer)
    assert.deepEqual(
      lines.map(({ requestId }) => requestId),
      left,
    )
    for (const line of lines)
      if (line.status === 'accepted') answers.set(line.requestId!, line)
      else assert.equal(line.problem!.code, 'overloaded')
    left = left.filter((id) => !answers.has(id))
  }
  assert.ok(rounds > 1, 'all outcomes had room')
})

test('a line that is too long ends the batch; the lines before it count', async (t) => {
  const served = await serveNotes(t, { limits: { bodyBytes: 1_000 } })
  const answers = await send(served, `${wish('1', 1)}\n${' '.repeat(2_000)}\n${wish('2', 2)}\n`)
  assert.deepEqual(
    answers.map(({ problem, status }) => problem?.code ?? status),
    ['accepted', 'body-too-large'],
  )
  assert.equal((await served.call('admin', '/requests/2')).status, 404)
})

test('another media type is refused', async (t) => {
  const { call } = await serveNotes(t)
  const response = await call('admin', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: wish('1', 1),
  })
  assert.equal(response.status, 415)
})

test('a body that has arrived before its lines are taken is read to its last line', async (t) => {
  const served = await serveNotes(t, { limits: { batchInFlight: 2 } })
  for (const many of [3, 2_000]) {
    const ids = Array.from({ length: many }, (_, i) => `${many}-${i}`)
    const answers = await send(served, ids.map((id, i) => wish(id, i, `owner ${many}`)).join('\n'))
    assert.deepEqual(
      answers.map(({ requestId }) => requestId),
      ids,
    )
  }
})

test('closing the server ends a batch whose body is still arriving, with a problem', async (t) => {
  const served = await serveNotes(t)
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(Buffer.from(`${wish('1', 1)}\n${wish('2', 2).slice(0, 20)}`))
    },
  })
  const response = await post(served, body)
  const reader = response.body!.getReader()
  assert.match(new TextDecoder().decode((await reader.read()).value), /"requestId":"1","status":"accepted"/)
  const closed = served.close()
  assert.match(new TextDecoder().decode((await reader.read()).value), /"code":"server-closing"/)
  await closed
  assert.equal(await served.engine.story('2', { principal: 'admin' }).catch(() => undefined), undefined)
})
