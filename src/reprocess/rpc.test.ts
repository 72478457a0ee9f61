import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import { RpcConnection, type RpcFunctions, type RpcTransport } from './rpc.ts'

// Two processes call each other. Every call must settle, with its own reply or with an error: a call that
// never settles would block a promotion, or the closing of an engine, for ever.

/** Two connected transports, which clone each message and deliver it in a later turn, in order. */
function transports(): [RpcTransport, RpcTransport] {
  const listeners: ((message: unknown) => void)[] = []
  const end = (own: number): RpcTransport => ({
    send(message) {
      const sent = structuredClone(message)
      setImmediate(() => listeners[1 - own]!(sent))
    },
    receive(listener) {
      listeners[own] = listener
    },
  })
  return [end(0), end(1)]
}

function pair<Here extends RpcFunctions, There extends RpcFunctions>(ours: Here, theirs: There) {
  const [near, far] = transports()
  return { here: new RpcConnection<There>(near, ours), there: new RpcConnection<Here>(far, theirs) }
}

/** Resolves when all messages in flight, and the replies to them, have arrived. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate)
}

test('calls go both ways, and resolve to the result of the other side, sync or async', async () => {
  const { here, there } = pair(
    { double: (n: number) => 2 * n },
    { join: async (a: string, b: string) => a + b, nothing: () => {}, map: () => new Map([[1, [2]]]) },
  )
  assert.deepEqual(
    await Promise.all([
      here.call('join', 'a', 'b'),
      there.call('double', 4),
      here.call('nothing'),
      here.call('map'),
    ]),
    ['ab', 8, undefined, new Map([[1, [2]]])],
  )
})

test('a function may call back while it is being called', async () => {
  const { here, there } = pair(
    { factorial: async (n: number): Promise<number> => (n === 0 ? 1 : n * (await here.call('next', n - 1))) },
    { next: (n: number): Promise<number> => there.call('factorial', n) },
  )
  assert.equal(await there.call('factorial', 6), 720)
})

test('every call gets its own reply, in whatever order replies arrive', async () => {
  const gates = [0, 1, 2].map(() => Promise.withResolvers<string>())
  const { here } = pair({}, { wait: (n: number) => gates[n]!.promise })
  const calls = [0, 1, 2].map((n) => here.call('wait', n))
  assert.equal(here.pendingCount, 3)
  await settled()
  for (const n of [2, 0, 1]) {
    gates[n]!.resolve(`reply ${n}`)
    assert.equal(await calls[n], `reply ${n}`)
  }
  assert.equal(here.pendingCount, 0)
})

test('a HenceError keeps its code, advice and message; other errors keep name and message', async () => {
  const { here } = pair(
    {},
    {
      hence() {
        throw new HenceError('code-not-kept', 'change', 'It is gone.')
      },
      range: () => Promise.reject(new RangeError('too far')),
      abort: () => AbortSignal.abort().throwIfAborted(),
      text() {
        throw 'only a text'
      },
    },
  )
  const hence = await here.call('hence').catch((error) => error)
  assert.ok(hence instanceof HenceError)
  const { name, code, advice, message } = hence
  assert.deepEqual([name, code, advice, message], ['HenceError', 'code-not-kept', 'change', 'It is gone.'])
  for (const [call, name, message] of [
    ['range', 'RangeError', 'too far'],
    ['abort', 'AbortError', 'This operation was aborted'],
    ['text', '', 'only a text'],
  ] as const) {
    const error = await here.call(call).catch((error) => error)
    assert.ok(error instanceof Error && !(error instanceof HenceError))
    assert.deepEqual([error.name, error.message], [name, message])
  }
  assert.equal(here.pendingCount, 0)
})

test('a call of an unknown function rejects, and breaks nothing', async () => {
  const { here } = pair({}, { known: () => 1 } as RpcFunctions)
  await assert.rejects(here.call('unknown'), { name: 'TypeError' })
  assert.equal(await here.call('known'), 1)
})

const why = new HenceError('engine-closed', 'retry', 'It is closed.')

test('abandoned calls reject with the reason; later calls are made', async () => {
  const gate = Promise.withResolvers<number>()
  const { here } = pair({}, { wait: () => gate.promise, one: () => 1 })
  const calls = [here.call('wait'), here.call('wait')]
  await settled()
  here.abandon(why)
  for (const call of calls) await assert.rejects(call, (error) => error === why)
  assert.equal(here.pendingCount, 0)
  // Late replies are ignored.
  gate.resolve(2)
  const later = here.call('one')
  assert.equal(here.pendingCount, 1)
  await settled()
  assert.equal(await later, 1)
})

test('pending and later calls reject with the reason once the other side is lost', async () => {
  let called = 0
  const gate = Promise.withResolvers<number>()
  const theirs = {
    wait() {
      called++
      return gate.promise
    },
  }
  const { here } = pair({}, theirs)
  const call = here.call('wait')
  await settled()
  here.lose(why)
  await assert.rejects(call, (error) => error === why)
  // The first reason stands.
  here.lose(new Error('something else'))
  await assert.rejects(here.call('wait'), (error) => error === why)
  gate.resolve(1)
  await settled()
  assert.deepEqual([called, here.pendingCount], [1, 0])
})

test('messages that arrive after the other side was lost are ignored, and none are sent to it', async () => {
  const sent: unknown[] = []
  let listener: (message: unknown) => void = () => {}
  const gate = Promise.withResolvers<number>()
  const here = new RpcConnection<{ readonly anything: () => number }>(
    {
      send: (message) => sent.push(message),
      receive(given) {
        listener = given
      },
    },
    { slow: () => gate.promise },
  )
  const rejected = assert.rejects(here.call('anything'), (error) => error === why)
  const [{ id }] = sent as [{ id: number }]
  listener({ call: 'slow', id: 7, values: [] })
  await settled()
  here.lose(why)
  listener({ reply: id, value: 1 })
  listener({ reply: id, error: { name: 'Error', message: 'late' } })
  listener({ reply: 99, value: 1 })
  gate.resolve(1)
  await settled()
  await rejected
  assert.equal(sent.length, 1)
})

test('an errno arrives as what happened to which file, and what to do', async () => {
  const { here } = pair({}, { list: () => readdir('/no/folder') })
  await assert.rejects(here.call('list'), (error) => {
    assert.ok(error instanceof HenceError)
    assert.deepEqual([error.code, error.advice], ['file-unusable', 'operator'])
    assert.match(error.message, /^\/no\/folder cannot be used: it is not there \(ENOENT\)\. /)
    return true
  })
})
