import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Caller, createKey, revokeKey } from 'hence/server'
import { HandClock } from '../../test/hand-clock.ts'
import { read } from '../../test/server/events.ts'
import { type Served, serveNotes } from '../../test/server/serve.ts'

// A key or a session ends while a request goes on: nothing is accepted or delivered later than a second after
// that.

const note = (number: number) => ({ owner: 'ada', number, text: 'x' })
const line = (number: number) =>
  `${JSON.stringify({ requestId: `n${number}`, type: 'write', input: note(number) })}\n`

interface Scene {
  readonly served: Served
  readonly clock: HandClock
  readonly headers: Readonly<Record<string, string>>
  /** Ends the key or the session, or takes its permission to submit. */
  end(how: 'ended' | 'reduced'): Promise<void>
  /** How often the host was asked for the session. */
  asked(): number
}

async function withKey(t: TestContext): Promise<Scene> {
  const clock = new HandClock()
  const directory = await mkdtemp(join(tmpdir(), 'hence-access-'))
  t.after(() => rm(directory, { recursive: true }))
  const keys = join(directory, 'keys.json')
  const wanted = { name: 'k', principal: 'ada', permissions: ['submit', 'read'] }
  const { key, secret } = await createKey(keys, wanted, clock)
  const served = await serveNotes(t, { keys, clock })
  return {
    served,
    clock,
    headers: { authorization: `Bearer ${secret}` },
    end: async () => void (await revokeKey(keys, key.id)),
    asked: () => 0,
  }
}

async function withSession(t: TestContext): Promise<Scene> {
  const clock = new HandClock()
  let session: Caller | undefined = { principal: 'ada', permissions: ['submit', 'read'] }
  let asked = 0
  const served = await serveNotes(t, {
    clock,
    authenticate: (request) => {
      if (!request.headers.has('x-session')) return { principal: 'root', permissions: ['admin'] }
      asked++
      return session
    },
  })
  return {
    served,
    clock,
    headers: { 'x-session': '1' },
    async end(how) {
      session = how === 'ended' ? undefined : { principal: 'ada', permissions: ['submit:send'] }
    },
    asked: () => asked,
  }
}

/** A batch whose lines are sent one by one. */
async function openBatch({ served, headers }: Scene, first: string) {
  let feed!: ReadableStreamDefaultController<Uint8Array>
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      feed = controller
      feed.enqueue(Buffer.from(first))
    },
  })
  const response = await served.call(undefined, '/requests', {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/x-ndjson' },
    body,
    duplex: 'half',
  } as RequestInit)
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  return {
    /** @returns the outcome of this line; undefined if the batch has ended */
    async send(text: string): Promise<string | undefined> {
      feed.enqueue(Buffer.from(text))
      return (await reader.read()).value
    },
    next: async () => (await reader.read()).value,
  }
}

for (const [kind, scene] of [
  ['key', withKey],
  ['session', withSession],
] as const) {
  test(`a stream ends with the ${kind} of its reader, before it delivers anything more`, async (t) => {
    const { served, clock, headers, end } = await scene(t)
    const admin = kind === 'key' ? 'admin' : undefined
    const stream = await read(served, undefined as never, '/changes?table=notes', headers)
    assert.equal((await stream.next())?.event, 'open')
    await served.submit(admin, 'write', 'a', note(1))
    assert.equal((await stream.next())?.event, 'changes')
    await end('ended')
    clock.pass(1_000)
    await served.submit(admin, 'write', 'b', note(2))
    const last = await stream.next()
    assert.equal(last?.event, 'problem')
    assert.match(last!.data, /"code":"not-authenticated"/)
    assert.equal(await stream.next(), undefined)
  })

  test(`a batch takes no line once the ${kind} of its sender has ended`, async (t) => {
    const made = await scene(t)
    const { served, clock, end } = made
    const batch = await openBatch(made, line(1))
    assert.match((await batch.next())!, /"requestId":"n1","status":"accepted"/)
    await end('ended')
    clock.pass(1_000)
    const refused = await batch.send(line(2))
    assert.match(refused!, /"code":"not-authenticated"/)
    assert.equal(await batch.next(), undefined, 'the batch has ended')
    assert.equal(await served.engine.story('n2', { principal: 'ada' }), undefined)
  })

  test(`a request whose body arrives after the ${kind} has ended is not taken`, async (t) => {
    const { served, clock, headers, end } = await scene(t)
    let feed!: ReadableStreamDefaultController<Uint8Array>
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        feed = controller
      },
    })
    const text = JSON.stringify(note(1))
    feed.enqueue(Buffer.from(text.slice(0, 5)))
    const answered = served.call(undefined, '/requests/write', {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': 'slow' },
      body,
      duplex: 'half',
    } as RequestInit)
    // The server has counted the first bytes, so it has identified the sender.
    for (;;) {
      const metrics = await served.call(kind === 'key' ? 'operator' : undefined, '/metrics')
      if (/^hence_body_bytes [1-9]/m.test(await metrics.text())) break
    }
    await end('ended')
    clock.pass(1_000)
    feed.enqueue(Buffer.from(text.slice(5)))
    feed.close()
    assert.equal((await answered).status, 401)
    assert.equal(await served.engine.story('slow', { principal: 'ada' }), undefined)
  })
}

test('a read that waits is not delivered once the session has ended', async (t) => {
  const clock = new HandClock()
  let isOpen = true
  const arrived = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  const served = await serveNotes(t, {
    clock,
    authenticate: () => (isOpen ? { principal: 'ada', permissions: ['read'] } : undefined),
  })
  const get = served.engine.get.bind(served.engine)
  served.engine.get = (async (...args: Parameters<typeof get>) => {
    arrived.resolve()
    await held.promise
    return get(...args)
  }) as never
  await served.engine.submit('write', note(1), { requestId: 'n', principal: 'ada' })
  const answered = served.call(undefined, '/tables/notes/ada/1')
  await arrived.promise
  isOpen = false
  clock.pass(1_000)
  held.resolve()
  assert.equal((await answered).status, 401)
})

test('a stream goes on with the permissions that its reader has now', async (t) => {
  const made = await withSession(t)
  const { served, clock, headers, end } = made
  const stream = await read(served, undefined as never, '/changes', headers)
  await stream.next()
  await served.submit(undefined, 'send', 'a', { from: 'ada', to: 'bob', text: '' })
  assert.match((await stream.next())!.data, /"table":"inbox","key":\["bob"/)
  await end('reduced')
  clock.pass(1_000)
  await served.submit(undefined, 'send', 'b', { from: 'ada', to: 'bob', text: '' })
  await served.submit(undefined, 'send', 'c', { from: 'bob', to: 'ada', text: '' })
  assert.match((await stream.next())!.data, /"table":"inbox","key":\["ada"/, 'her own rows only')
  await stream.stop()
})

test('a batch goes on with the permissions that its sender has now', async (t) => {
  const made = await withSession(t)
  const batch = await openBatch(made, line(1))
  assert.match((await batch.next())!, /accepted/)
  await made.end('reduced')
  made.clock.pass(1_000)
  assert.match((await batch.send(line(2)))!, /"code":"not-allowed"/)
})

test('the host is asked for a session at most once a second on a connection', async (t) => {
  const made = await withSession(t)
  const { served, clock, headers, asked } = made
  const stream = await read(served, undefined as never, '/changes?table=notes', headers)
  const batch = await openBatch(made, line(1))
  await batch.next()
  await stream.next()
  await stream.next()
  assert.equal(asked(), 2)
  for (let i = 2; i < 50; i++) {
    await batch.send(line(i))
    await stream.next()
  }
  assert.equal(asked(), 2)
  for (let second = 1; second <= 3; second++) {
    clock.pass(1_000)
    for (let i = 0; i < 10; i++) {
      await batch.send(line(100 * second + i))
      await stream.next()
    }
    assert.equal(asked(), 2 + 2 * second)
  }
  await stream.stop()
})

test('another principal in the same session ends the stream', async (t) => {
  const clock = new HandClock()
  let principal = 'ada'
  const served = await serveNotes(t, { clock, authenticate: () => ({ principal, permissions: ['admin'] }) })
  const stream = await read(served, 'ada', '/changes?table=notes')
  await stream.next()
  principal = 'bob'
  clock.pass(1_000)
  await served.submit('bob', 'write', 'a', note(1))
  assert.match((await stream.next())!.data, /"code":"not-authenticated"/)
})
