import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bundleApp, createEngine, HenceError, type Reply } from 'hence'
import { memoryStorage } from 'hence/testing'
import type { Log } from '../../src/log/log.ts'
import { partitionOf } from '../../src/log/partitions.ts'
import { decodeRecord } from '../../src/log/record.ts'
import type errands from '../apps/errands.ts'
import type { Action } from '../apps/errands.ts'
import type stays from '../apps/stays.ts'
import { crashAt } from '../crash-points.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

// A key is serial, also while one of its requests waits for verdicts: the results are the same on any number
// of partitions.

const bundle = await bundleApp<typeof stays>(new URL('../apps/stays.ts', import.meta.url))
const errandsBundle = await bundleApp<typeof errands>(new URL('../apps/errands.ts', import.meta.url))
const { runs } = runsOf(10)

replayKept('serial-keys', live)

const startMs = 1_790_000_000_000

/** @param held the partition whose appends wait until `release` is called */
async function open(partitions: number, held?: number) {
  let now = startMs
  const alarms: string[] = []
  const clock = { now: () => now, alarm: () => () => {}, elapsed: () => now }
  const storage = memoryStorage({ partitions, clock })
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  let isHeld = false
  const { log } = storage
  const holding: Log = {
    id: log.id,
    partitions,
    async append(partition, ...rest) {
      if (isHeld && partition === held) await released
      return log.append(partition, ...rest)
    },
    read: (partition, from) => log.read(partition, from),
    end: (partition) => log.end(partition),
    async close() {},
  }
  const engine = await createEngine({
    app: bundle,
    data: { ...storage, log: holding },
    clock,
    report: ({ message }) => alarms.push(message),
  })
  isHeld = true
  let sent = 0
  return {
    engine,
    alarms,
    log,
    release,
    pass: (ms: number) => {
      now += ms
    },
    send: (type: string, input: unknown, id = `r${sent++}`): Promise<Reply> =>
      engine.submit(type as never, input as never, { requestId: id }) as Promise<Reply>,
    enqueue: (type: string, input: unknown, id = `r${sent++}`): Promise<unknown> =>
      engine.enqueue(type as never, input as never, { requestId: id }),
    async steps(stay: string) {
      const row = (await engine.get('steps', [stay])) as { done: [string, number][] } | undefined
      return row?.done.map(([step, at]) => [step, at - startMs])
    },
  }
}

/** Names of a stay and a room in the two partitions of a log. */
const [stayHere, roomThere] = ['s', 'room-'].map((name, partition) => {
  let n = 0
  while (partitionOf(`${name}${n}`, 2) !== partition) n++
  return `${name}${n}`
}) as [string, string]
const booking = { stay: stayHere, room: roomThere }

for (const partitions of [1, 2, 8]) {
  const on = `on ${partitions} partition${partitions > 1 ? 's' : ''}`

  test(`a stay is cancelled by what comes right after its booking, ${on}`, async () => {
    const { engine, send, alarms } = await open(partitions)
    const replies: Promise<Reply>[] = []
    for (let n = 0; n < 100; n++) {
      replies.push(send('book', { stay: `s${n}`, room: `room-${n % 7}` }), send('cancel', { stay: `s${n}` }))
    }
    const accepted = (await Promise.all(replies)).filter(({ status }) => status === 'accepted')
    assert.equal(accepted.length, 200)
    await engine.idle()
    assert.deepEqual(alarms, [])
    await engine.close()
  })

  test(`a request with strict claims cannot use the judge of its own key, ${on}`, async () => {
    const { engine, send } = await open(partitions)
    const reply = await send('book', { stay: 's', room: 'room', uses: true })
    assert.deepEqual([reply.status, 'code' in reply && reply.code], ['failed', 'judge-while-claiming'])
    await engine.close()
  })
}

test('a waiting request has its own time, timers go off in between, and a retry waits beside the parked request', async () => {
  const { engine, send, enqueue, pass, release, steps, alarms } = await open(2, 1)
  const stay = stayHere
  void send('book', { ...booking, remindAt: startMs + 30 })
  await enqueue('remind', { stay, at: startMs + 15 })
  pass(10)
  await enqueue('note', { stay, text: 'first' })
  pass(10)
  await enqueue('note', { stay, text: 'second' }, 'again')
  const second = send('note', { stay, text: 'second' }, 'again')
  const retry = send('note', { stay, text: 'second' }, 'again')
  pass(20)
  await enqueue('note', { stay, text: 'third' })
  assert.equal(await steps(stay), undefined)
  release()
  assert.equal((await second).status, 'accepted')
  assert.deepEqual({ ...(await retry), replayed: false }, { ...(await second), replayed: false })
  await engine.idle()
  // The reminder was set for 15, and for 30 by the booking, which came first: the later one replaced the
  // earlier.
  assert.deepEqual(await steps(stay), [
    ['booked', 0],
    ['first', 10],
    ['reminded', 15],
    ['second', 20],
    ['third', 40],
  ])
  assert.deepEqual(alarms, [])
  await engine.close()
})

test('a long queue is released in several steps, in order, and nothing is settled before', async () => {
  const { engine, send, enqueue, release, steps, log } = await open(2, 1)
  const stay = stayHere
  const booked = send('book', booking)
  const notes = Array.from({ length: 350 }, (_, n) => `note ${n}`)
  await Promise.all(notes.map((text) => enqueue('note', { stay, text })))
  const last = send('cancel', { stay })
  release()
  const { token } = await booked
  await last
  await engine.idle()
  assert.deepEqual(
    (await steps(stay))!.map(([step]) => step),
    ['booked', ...notes, 'cancelled'],
  )
  let resumed = 0
  for await (const { records } of log.read(0, 0)) {
    for (const bytes of records) {
      const record = decodeRecord(bytes)
      if (record.kind === 'event' && record.type === 'hence:resume') resumed++
    }
  }
  assert.equal(resumed, 3)
  await engine.get('steps', [stay], { after: token })
  await engine.close()
})

test('new requests of a key are refused while too many bytes wait, and retries are not', async () => {
  const { engine, send, enqueue, release } = await open(2, 1)
  const stay = stayHere
  const booked = send('book', booking)
  const text = 'x'.repeat(100_000)
  let accepted = 0
  const refused = await (async () => {
    for (; accepted < 30; accepted++) {
      try {
        await enqueue('note', { stay, text })
      } catch (error) {
        return error
      }
    }
    return undefined
  })()
  assert.ok(refused instanceof HenceError && refused.code === 'overloaded' && refused.advice === 'retry')
  assert.equal(accepted, 11)
  const retry = send('note', { stay, text }, 'r1')
  const other = enqueue('note', { stay: `${stay}-other`, text })
  release()
  await Promise.all([booked, retry, other])
  await engine.idle()
  assert.equal((await send('note', { stay, text: 'short' })).status, 'accepted')
  await engine.close()
})

const places = ['p0', 'p1', 'p2', 'p3', 'p4']
const poolsOf = (place: string) => [0, 1, 2].map((n) => `pool-${n} of ${place}`)

interface Errand {
  readonly place: number
  readonly claims: readonly { readonly pool: number; readonly units: number }[]
  readonly actions: readonly Action[]
}
/** Errands that are sent at one time, in order, without waiting; then the time passes. */
interface Burst {
  readonly errands: readonly Errand[]
  readonly crashes: boolean
  readonly passMs: number
}

const name = fc.constantFrom('t0', 't1')
const text = fc.constantFrom('a', 'b', 'c', 'd')
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), text }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('self' as const), text }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('send' as const), to: fc.constantFrom(...places), text }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('set' as const), name, inMs: fc.nat(40) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), name }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reject' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'throw' as const }) },
)
const claim = fc.record({ pool: fc.nat(2), units: fc.integer({ min: 1, max: 2 }) })
const errand: fc.Arbitrary<Errand> = fc.record({
  place: fc.nat(places.length - 1),
  claims: fc.array(claim, { maxLength: 3 }),
  actions: fc.array(action, { minLength: 1, maxLength: 5 }),
})
const burst: fc.Arbitrary<Burst> = fc.record({
  errands: fc.array(errand, { maxLength: 25 }),
  crashes: fc.nat(3).map((n) => n === 0),
  passMs: fc.nat(30),
})

type World = [bursts: Burst[], releases: number, checkpointRows: number, seed: number]
const worlds = fc.asyncProperty<World>(
  fc.array(burst, { minLength: 1, maxLength: 6 }),
  fc.nat(3),
  fc.constantFrom(1, 7, 1_000),
  fc.nat(),
  (...world) => live(world),
)

/** Runs one world on some partitions, and returns all rows and outcomes. */
async function outcomeOf(
  partitions: number,
  [bursts, releases, checkpointRows, seed]: World,
): Promise<unknown> {
  const random = randomFrom(seed)
  let now = startMs
  const clock = { now: () => now, alarm: () => () => {}, elapsed: () => now }
  const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random })
  const alarms: string[] = []
  const open = () =>
    createEngine({
      app: errandsBundle,
      data: storage.open(),
      checkpointRows,
      clock,
      random,
      report: ({ code, message }) => code !== 'derivation-failed' && alarms.push(message),
    })
  let engine = await open()
  const sent: { readonly id: string; readonly input: unknown }[] = []
  const replies = new Map<string, unknown>()
  const send = async ({ id, input }: (typeof sent)[number]): Promise<void> => {
    try {
      const {
        token: _,
        replayed: __,
        ...reply
      } = await engine.submit('run', input as never, { requestId: id })
      replies.set(id, reply)
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'retry') alarms.push(String(error))
    }
  }
  /** Sends what is not decided, in order, until all of it is in the log. */
  const allDurable = async () => {
    for (const each of sent) if (!replies.has(each.id)) void send(each)
    const open = sent.filter(({ id }) => !replies.has(id))
    await Promise.all(open.map(({ id, input }) => engine.enqueue('run', input as never, { requestId: id })))
  }
  for (const [n, { errands, crashes, passMs }] of bursts.entries()) {
    for (const { place, claims, actions } of errands) {
      const name = places[place]!
      const pools = poolsOf(name)
      const all =
        (sent.length + n) % 4 < releases
          ? [...actions, ...pools.map((pool) => ({ do: 'release', pool }))]
          : actions
      const input = {
        place: name,
        claims: claims.map(({ pool, units }) => ({ pool: pools[pool], units })),
        actions: all,
      }
      sent.push({ id: `r${sent.length}`, input })
      void send(sent.at(-1)!)
    }
    if (crashes) {
      for (let turns = Math.floor(random() * 12); turns > 0; turns--) await new Promise(setImmediate)
      storage.crash()
      engine = await open()
      counts.crashes++
    }
    await allDurable()
    now += passMs
  }
  now += 1_000
  for (const place of places) {
    sent.push({
      id: `end-${place}`,
      input: { place, claims: [], actions: [{ do: 'write', text: 'end' }] },
    })
    void send(sent.at(-1)!)
  }
  for (let rounds = 0; replies.size < sent.length; rounds++) {
    assert.ok(rounds < 200, `a request is never decided on ${partitions} partitions`)
    await engine.idle()
    await new Promise(setImmediate)
    for (const each of sent) if (!replies.has(each.id)) void send(each)
  }
  await engine.idle()
  assert.deepEqual(alarms, [])
  const rows = { diary: await engine.scan('diary'), letters: await engine.scan('letters') }
  const digest = await engine.digest()
  await engine.reprocessing.start({ app: errandsBundle }, { again: true })
  assert.equal((await engine.reprocessing.diff()).differences, 0, 'the same code derives something else')
  await engine.close()
  const bare = await createEngine({
    app: errandsBundle,
    data: { ...memoryStorage({ partitions, clock }), log: storage.log },
    clock,
    report: () => {},
  })
  assert.equal(await bare.digest(), digest, 'a replay derives something else')
  await bare.close()
  return { rows, replies: [...replies].sort(([a], [b]) => (a < b ? -1 : 1)) }
}

const counts = { worlds: 0, crashes: 0 }

async function live(world: World): Promise<void> {
  counts.worlds++
  const one = await outcomeOf(1, world)
  for (const partitions of [2, 8]) assert.deepEqual(await outcomeOf(partitions, world), one)
}

test(
  crashAt('any turn of the event loop', `results are the same on 1, 2 and 8 partitions, ${runs} worlds`),
  async (t) => {
    await checkProperty('serial-keys', worlds, runs)
    t.diagnostic(JSON.stringify(counts))
  },
)
