import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { z } from 'zod'
import { type Asked, problem, type Script, ScriptedServer } from '../../test/scripted-server.ts'
import { app, HenceError, scopes } from '../app/index.ts'
import { client } from './client.ts'
import { Exchange } from './exchange.ts'
import { memory } from './memory.ts'
import { follow } from './subscription.ts'

const [order] = scopes('order')
const orders = order.table('orders', { value: z.object({ cents: z.int() }) })
const shop = app('shop', { requests: [], tables: [orders] })

const backoff = { firstMs: 1, mostMs: 2 }

/** A stream that says this, and then stays open or ends. */
function stream(text: string, then: 'stay' | 'end' | 'cut' = 'stay'): Script {
  return (response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(text)
    if (then === 'end') response.end()
    // Written data is sent first.
    if (then === 'cut') setImmediate(() => response.destroy())
  }
}

const opened = (position: string) => `id: ${position}\nevent: open\ndata: {}\n\n`
const change = (i: number) => ({ table: 'orders', key: [`o${i}`], after: { cents: i }, token: `0:${i}` })
const changed = (...numbers: number[]) =>
  `id: ${numbers.at(-1)! + 1}\nevent: changes\ndata: ${JSON.stringify(numbers.map(change))}\n\n`

/** Follows a scripted server, and records its callbacks. */
async function followed(
  t: TestContext,
  scripts: readonly ((asked: Asked) => Script)[],
  options: { readonly from?: string; readonly silentMs?: number; readonly until: string },
): Promise<{ readonly calls: string[]; readonly server: ScriptedServer }> {
  const left = [...scripts]
  const server = await ScriptedServer.listen((asked) => (left.length > 1 ? left.shift()! : left[0]!)(asked))
  t.after(() => server.close())
  const stop = new AbortController()
  const calls: string[] = []
  const called = (what: string) => {
    calls.push(what)
    if (what === options.until) stop.abort()
  }
  const { silentMs, from } = options
  await follow(
    { tables: ['orders'], prefix: ['o'], from },
    {
      anew: () => called('anew'),
      changes: (changes, position) => {
        called(`${changes.map(({ token }) => token).join(' ')} at ${position}`)
      },
      ended: ({ code }) => called(`ended by ${code}`),
    },
    {
      exchange: new Exchange({ url: server.url }),
      backoff,
      random: Math.random,
      clock: { now: () => 0 },
      signal: stop.signal,
      ...(silentMs === undefined ? {} : { silentMs }),
    },
  )
  return { calls, server }
}

const lastEventIds = ({ asked }: ScriptedServer) => asked.map(({ headers }) => headers['last-event-id'])

test('a stream that breaks off goes on where it was', async (t) => {
  const { calls, server } = await followed(
    t,
    [
      () => stream(opened('0') + changed(0, 1) + changed(2).slice(0, -9), 'cut'),
      () => stream(`${opened('2')}: here\n\n${changed(2)}`, 'end'),
      () => ({ status: 502, body: 'no', type: 'text/plain' }),
      () => problem(503, 'engine-closed', 'retry', {}, { 'retry-after': '0' }),
      () => stream(opened('3') + changed(3)),
    ],
    { until: '0:3 at 4' },
  )
  assert.deepEqual(calls, ['anew', '0:0 0:1 at 2', '0:2 at 3', '0:3 at 4'])
  assert.deepEqual(lastEventIds(server), [undefined, '2', '3', '3', '3'])
  assert.equal(server.asked[0]!.path, '/changes?table=orders&prefix=%5B%22o%22%5D')
})

test('before anything has changed the position is known too', async (t) => {
  const { calls, server } = await followed(
    t,
    [() => stream(opened('7'), 'end'), () => stream(opened('7') + changed(7))],
    { until: '0:7 at 8' },
  )
  assert.deepEqual(calls, ['anew', '0:7 at 8'])
  assert.deepEqual(lastEventIds(server), [undefined, '7'])
})

test('a position that is no longer kept: it begins anew, and says so', async (t) => {
  const gone = problem(410, 'position-unknown', 'change')
  const { calls, server } = await followed(
    t,
    [
      () => gone,
      () => stream(opened('5') + changed(5), 'cut'),
      () =>
        stream(`${opened('6')}event: problem\ndata: ${JSON.stringify((gone as { body: unknown }).body)}\n\n`),
      () => stream(opened('9') + changed(9)),
    ],
    { from: '1', until: '0:9 at 10' },
  )
  assert.deepEqual(calls, ['anew', '0:5 at 6', 'anew', '0:9 at 10'])
  assert.deepEqual(lastEventIds(server), ['1', undefined, '6', undefined])
})

test('a stream on which nothing comes is given up', async (t) => {
  const { calls, server } = await followed(
    t,
    [() => stream(opened('0')), () => () => {}, () => stream(opened('0') + changed(0))],
    { until: '0:0 at 1', silentMs: 30 },
  )
  assert.deepEqual(calls, ['anew', '0:0 at 1'])
  // More often if this process was kept from reading in time.
  assert.ok(server.asked.length >= 3)
})

test('a refusal ends it; a missing login does not', async (t) => {
  const { calls, server } = await followed(
    t,
    [() => problem(401, 'not-authenticated', 'change'), () => problem(404, 'unknown-table', 'change')],
    { until: 'ended by unknown-table' },
  )
  assert.deepEqual(calls, ['ended by unknown-table'])
  assert.equal(server.asked.length, 2)
})

test('text is put together from whatever pieces it comes in', async (t) => {
  const bytes = Buffer.from(
    `${opened('0')}id: 1\nevent: changes\ndata: ${JSON.stringify([{ ...change(0), token: 'zöö—🦊' }])}\n\n`,
  )
  const { calls } = await followed(
    t,
    [
      () => async (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        for (const byte of bytes) {
          response.write(Buffer.from([byte]))
          await new Promise(setImmediate)
        }
      },
    ],
    { until: 'zöö—🦊 at 1' },
  )
  assert.deepEqual(calls, ['anew', 'zöö—🦊 at 1'])
})

test('a client’s subscription: it ends on request, and its listener may throw', async (t) => {
  const server = await ScriptedServer.listen(() => stream(opened('0') + changed(0) + changed(1)))
  const hence = client<typeof shop>({ url: server.url, outbox: memory(), backoff })
  t.after(async () => {
    await hence.close()
    await server.close()
  })
  const uncaught = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve))
  t.after(() => process.setUncaughtExceptionCaptureCallback(null))
  const calls: string[] = []
  await new Promise<void>((resolve) => {
    const stop = hence.subscribe(
      { tables: ['orders'], anew: () => calls.push('anew') },
      ([first], position) => {
        calls.push(`${first!.key[0]} ${first!.after?.cents} at ${position}`)
        if (position === '1') throw new HenceError('mine', 'change', 'broken')
        stop()
        resolve()
      },
    )
  })
  assert.deepEqual(calls, ['anew', 'o0 0 at 1', 'o1 1 at 2'])
  assert.equal(((await uncaught) as Error).message, 'broken')
})
