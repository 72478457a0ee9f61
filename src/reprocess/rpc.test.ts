import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import { type Calls, Peer, type Wire } from './rpc.ts'

// Two processes call each other. Whoever waits for a reply must get that of its own call, or be told why there is none: a call
// that nobody ever settles would hold a promotion, or the end of an engine, for ever.

/** Two ends of a wire that carries what a structured clone carries, in order, each message in a turn of its own. */
function wires(): [Wire, Wire] {
  const listeners: ((message: unknown) => void)[] = []
  const end = (own: number): Wire => ({
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

function pair<Ours extends Calls, Theirs extends Calls>(ours: Ours, theirs: Theirs) {
  const [near, far] = wires()
  return { here: new Peer<Theirs>(near, ours), there: new Peer<Ours>(far, theirs) }
}

/** Resolves when all messages that are under way, and the replies to them, have come. */
async function quiet(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate)
}

test('calls go both ways, and give what the other side gives, now or later', async () => {
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

test('one side may call the other while it is called by it', async () => {
  const { here, there } = pair(
    { factorial: async (n: number): Promise<number> => (n === 0 ? 1 : n * (await here.call('next', n - 1))) },
    { next: (n: number): Promise<number> => there.call('factorial', n) },
  )
  assert.equal(await there.call('factorial', 6), 720)
})

test('every call gets its own reply, in whatever order they come', async () => {
  const gates = [0, 1, 2].map(() => Promise.withResolvers<string>())
  const { here } = pair({}, { wait: (n: number) => gates[n]!.promise })
  const calls = [0, 1, 2].map((n) => here.call('wait', n))
  assert.equal(here.waitingCount, 3)
  await quiet()
  for (const n of [2, 0, 1]) {
    gates[n]!.resolve(`reply ${n}`)
    assert.equal(await calls[n], `reply ${n}`)
  }
  assert.equal(here.waitingCount, 0)
})

test('an error of Hence keeps code, advice and message; others their name and message', async () => {
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
  assert.equal(here.waitingCount, 0)
})

test('a call that the other side does not know is an error, and breaks nothing', async () => {
  const { here } = pair({}, { known: () => 1 } as Calls)
  await assert.rejects(here.call('unknown'), { name: 'TypeError' })
  assert.equal(await here.call('known'), 1)
})

const why = new HenceError('engine-closed', 'retry', 'It is closed.')

test('whoever waits when calls are abandoned is told why; later calls are made', async () => {
  const gate = Promise.withResolvers<number>()
  const { here } = pair({}, { wait: () => gate.promise, one: () => 1 })
  const calls = [here.call('wait'), here.call('wait')]
  await quiet()
  here.abandon(why)
  for (const call of calls) await assert.rejects(call, (error) => error === why)
  assert.equal(here.waitingCount, 0)
  // Replies that come all the same are nobody's.
  gate.resolve(2)
  const later = here.call('one')
  assert.equal(here.waitingCount, 1)
  await quiet()
  assert.equal(await later, 1)
})

test('whoever waits when the other side is lost is told why, and so is whoever calls it later', async () => {
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
  await quiet()
  here.lose(why)
  await assert.rejects(call, (error) => error === why)
  // The first reason stands.
  here.lose(new Error('something else'))
  await assert.rejects(here.call('wait'), (error) => error === why)
  gate.resolve(1)
  await quiet()
  assert.deepEqual([called, here.waitingCount], [1, 0])
})

test('what comes after the other side was lost is ignored, and nothing is sent to it', async () => {
  const sent: unknown[] = []
  let listener: (message: unknown) => void = () => {}
  const gate = Promise.withResolvers<number>()
  const here = new Peer<{ readonly anything: () => number }>(
    {
      send: (message) => sent.push(message),
      receive(given) {
        listener = given
      },
    },
    { slow: () => gate.promise },
  )
  const told = assert.rejects(here.call('anything'), (error) => error === why)
  const [{ id }] = sent as [{ id: number }]
  listener({ call: 'slow', id: 7, values: [] })
  await quiet()
  here.lose(why)
  listener({ reply: id, value: 1 })
  listener({ reply: id, error: { name: 'Error', message: 'late' } })
  listener({ reply: 99, value: 1 })
  gate.resolve(1)
  await quiet()
  await told
  assert.equal(sent.length, 1)
})
