import 'fake-indexeddb/auto'
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { z } from 'zod'
import { type Asked, accepted, problem, type Script, ScriptedServer } from '../../test/scripted-server.ts'
import { app, HenceError, scopes } from '../app/index.ts'
import { type Client, client } from './client.ts'
import { indexedDb } from './indexed-db.ts'

// Several clients on one database are the tabs of a browser: Node has their channels and locks, and the
// database is fake-indexeddb. The real ones are tried in a browser by the example.

const [order] = scopes('order')
const place = order.request('place', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive: () => ({ placed: true }),
})
const shop = app('shop', { requests: [place], tables: [] })
type Shop = typeof shop

let databases = 0

interface Browser {
  readonly server: ScriptedServer
  readonly name: string
  tab(): Client<Shop>
}

async function browser(t: TestContext, answer: (asked: Asked) => Script | Promise<Script>): Promise<Browser> {
  const server = await ScriptedServer.listen(answer)
  const name = `shop-${databases++}`
  const tabs: Client<Shop>[] = []
  t.after(async () => {
    for (const tab of tabs) await tab.close()
    await server.close()
  })
  return {
    server,
    name,
    tab() {
      const made = client<Shop>({
        url: server.url,
        outbox: indexedDb({ name }),
        backoff: { firstMs: 1, mostMs: 2 },
      })
      tabs.push(made)
      return made
    },
  }
}

/** Resolves to the ids of this many requests, once a tab has emitted their events. */
function emitted(tab: Client<Shop>, event: 'pending' | 'decided' | 'refused', count = 1): Promise<string[]> {
  const ids: string[] = []
  return new Promise((resolve) => {
    tab.on(event, ({ requestId }) => {
      if (ids.push(requestId) === count) resolve(ids)
    })
  })
}

const mug = { order: 'o1' }

test('a page that is reloaded in the middle gets the outcome', async (t) => {
  const { server, tab } = await browser(t, () => () => {})
  const before = tab()
  const lost = before.submit('place', mug, { requestId: 'r1' })
  lost.catch(() => {})
  while (server.asked.length === 0) await new Promise(setImmediate)
  await before.close()
  await assert.rejects(lost, (error) => error instanceof HenceError && error.code === 'client-closed')
  server.answer((asked) => accepted(asked))
  const after = tab()
  const [pending, decided] = [emitted(after, 'pending'), emitted(after, 'decided')]
  assert.deepEqual(await pending, ['r1'])
  assert.deepEqual(await decided, ['r1'])
  assert.deepEqual(await after.pending(), [])
  await after.close()
  const third = tab()
  await third.submit('place', mug, { requestId: 'r2' })
  assert.deepEqual(
    server.asked.map(({ id }) => id),
    ['r1', 'r1', 'r2'],
    'what is decided is not kept',
  )
})

test('two tabs: one sends at a time, in the order of storing; each promise resolves in its tab', async (t) => {
  let under = 0
  const { server, tab } = await browser(t, async (asked) => {
    assert.equal(++under, 1, 'one at a time')
    await new Promise(setImmediate)
    under--
    return accepted(asked)
  })
  const [a, b] = [tab(), tab()]
  const all = 40
  const [inA, inB] = [emitted(a, 'decided', all), emitted(b, 'decided', all)]
  const replies = await Promise.all(
    Array.from({ length: all }, async (_, i) => {
      const requestId = `r${i}`
      return (i % 2 ? a : b).submit('place', mug, { requestId })
    }),
  )
  assert.deepEqual(
    replies.map(({ requestId }) => requestId),
    Array.from({ length: all }, (_, i) => `r${i}`),
  )
  const sent = server.asked.map(({ id }) => id)
  assert.equal(new Set(sent).size, all)
  assert.equal(sent.length, all, 'none is sent twice')
  // Both tabs get all events.
  assert.deepEqual((await inA).sort(), [...sent].sort())
  assert.deepEqual((await inB).sort(), [...sent].sort())
  assert.deepEqual([...(await a.pending()), ...(await b.pending())], [])
})

test('a tab that is closed leaves its requests to the other one, which is open already', async (t) => {
  const { server, tab } = await browser(t, () => () => {})
  const [a, b] = [tab(), tab()]
  const pending = emitted(b, 'pending', 2)
  for (const requestId of ['r1', 'r2']) a.submit('place', mug, { requestId }).catch(() => {})
  assert.deepEqual(await pending, ['r1', 'r2'])
  while (server.asked.length === 0) await new Promise(setImmediate)
  server.answer((asked) => accepted(asked))
  const decided = emitted(b, 'decided', 2)
  await a.close()
  assert.deepEqual(await decided, ['r1', 'r2'])
})

test('both tabs get a refusal', async (t) => {
  const { tab } = await browser(t, () => problem(422, 'input-invalid', 'change'))
  const [a, b] = [tab(), tab()]
  const refused = new Promise<HenceError>((resolve) => b.on('refused', ({ error }) => resolve(error)))
  const pending = emitted(b, 'pending')
  const reply = a.submit('place', mug)
  reply.catch(() => {})
  await pending
  await assert.rejects(reply, (error) => error instanceof HenceError && error.code === 'input-invalid')
  const error = await refused
  assert.ok(error instanceof HenceError)
  assert.deepEqual([error.code, error.advice], ['input-invalid', 'change'])
})

test('without locks both may send, and both get the outcome', async (t) => {
  const { locks } = navigator as { locks?: unknown }
  Object.defineProperty(navigator, 'locks', { value: undefined, configurable: true })
  t.after(() => Object.defineProperty(navigator, 'locks', { value: locks, configurable: true }))
  const { server, tab } = await browser(t, async (asked) => {
    await new Promise(setImmediate)
    return accepted(asked)
  })
  const [a, b] = [tab(), tab()]
  const replies = await Promise.all([
    a.submit('place', mug, { requestId: 'r1' }),
    b.submit('place', mug, { requestId: 'r1' }),
    a.submit('place', mug, { requestId: 'r2' }),
  ])
  assert.deepEqual(
    replies.map(({ requestId }) => requestId),
    ['r1', 'r1', 'r2'],
  )
  assert.ok(server.asked.length >= 2)
})

test('a tab that misses the news looks into the outbox when its turn comes', async (t) => {
  const real = BroadcastChannel.prototype.postMessage
  BroadcastChannel.prototype.postMessage = () => {}
  t.after(() => {
    BroadcastChannel.prototype.postMessage = real
  })
  const answers: (() => void)[] = []
  const { server, tab } = await browser(t, async (asked) => {
    await new Promise<void>((resolve) => answers.push(resolve))
    return accepted(asked)
  })
  const until = async (count: number) => {
    while (answers.length < count) await new Promise(setImmediate)
  }
  const a = tab()
  const first = a.submit('place', mug, { requestId: 'r1' })
  await until(1)
  // The second tab finds one that the first is sending, and is not notified of the next two, nor of any
  // outcome.
  const b = tab()
  while ((await b.pending()).length === 0) await new Promise(setImmediate)
  const second = a.submit('place', mug, { requestId: 'r2' })
  a.submit('place', mug, { requestId: 'r3' }).catch(() => {})
  answers[0]!()
  await first
  await until(2)
  answers[1]!()
  await second
  await until(3)
  const decided = emitted(b, 'decided')
  await a.close()
  await until(4)
  answers[3]!()
  assert.deepEqual(await decided, ['r3'])
  assert.deepEqual(
    server.asked.map(({ id }) => id),
    ['r1', 'r2', 'r3', 'r3'],
    'what is decided is not sent again, what nobody finished is',
  )
  assert.deepEqual(await b.pending(), [])
})

test('a name of its own for each user keeps their requests apart', async (t) => {
  const one = await browser(t, () => () => {})
  const other = await browser(t, (asked) => accepted(asked))
  one
    .tab()
    .submit('place', mug, { requestId: 'r1' })
    .catch(() => {})
  while (one.server.asked.length === 0) await new Promise(setImmediate)
  await other.tab().submit('place', mug, { requestId: 'r2' })
  assert.deepEqual(
    other.server.asked.map(({ id }) => id),
    ['r2'],
  )
})

test('a browser that keeps no data is reported', async (t) => {
  const factory = Reflect.get(globalThis, 'indexedDB')
  Reflect.deleteProperty(globalThis, 'indexedDB')
  t.after(() => Reflect.set(globalThis, 'indexedDB', factory))
  const { server, tab } = await browser(t, (asked) => accepted(asked))
  await assert.rejects(
    tab().submit('place', mug),
    (error) => error instanceof HenceError && error.code === 'outbox-failed' && error.advice === 'retry',
  )
  assert.equal(server.asked.length, 0)
})

test('the browser is asked to keep the data, once there is a request to lose, and need not agree', async (t) => {
  let asked = 0
  const storage = {
    async persist() {
      asked++
      throw new Error('not in a private window')
    },
  }
  Object.defineProperty(navigator, 'storage', { value: storage, configurable: true })
  t.after(() => Reflect.deleteProperty(navigator, 'storage'))
  const { tab } = await browser(t, (question) => accepted(question))
  const page = tab()
  await page.pending()
  assert.equal(asked, 0)
  await page.submit('place', mug)
  await page.submit('place', mug)
  assert.equal(asked, 1)
  const outbox = await indexedDb({ name: 'not-asked', persist: false }).open()
  await outbox.add({ requestId: 'r1', type: 'place', input: '{}', queue: '', since: 1 })
  await outbox.close()
  assert.equal(asked, 1)
})

test('a request that is replaced keeps its place in the database', async () => {
  const box = indexedDb({ name: `shop-${databases++}`, persist: false })
  const outbox = await box.open()
  const request = (i: number) => ({ requestId: `r${i}`, type: 'place', input: '{}', queue: '', since: i })
  for (let i = 0; i < 3; i++) await outbox.add({ ...request(i), unsent: true })
  await outbox.replace!(request(1))
  await outbox.replace!(request(7))
  await outbox.close()
  const again = await box.open()
  const stored = await again.list()
  assert.deepEqual(
    stored.map(({ requestId, unsent }) => `${requestId} ${unsent}`),
    ['r0 true', 'r1 undefined', 'r2 true'],
  )
  await again.close()
})
