import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import {
  type App,
  type AppBundle,
  bundleApp,
  createEngine,
  type Engine,
  type HenceError,
  systemClock,
} from 'hence'
import { rehearse } from '../../src/engine/rehearsal.ts'
import { decodeRecord } from '../../src/log/record.ts'
import { copyLmdbStore } from '../../src/state/lmdb-check.ts'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import { stateFolder } from '../../src/storage/states.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import type * as made from '../apps/ledgers.ts'
import type * as rung from '../apps/rung-orders.ts'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'
import { uuid7 } from '../ids.ts'
import { randomFrom } from '../random.ts'

// Rehearsals of logs with all that a log can have: none may differ from the state that an engine has made,
// and none may overlook what somebody has changed in it.

const { rungOrders } = appsOf<typeof rung>(import.meta.resolve('../apps/rung-orders.ts'))
const { ledgers } = appsOf<typeof made>(import.meta.resolve('../apps/ledgers.ts'))
const [first, later, strict] = await Promise.all([ledgers(1_000, 0), ledgers(1_000, 1), ledgers(50, 1)])
const poison = await bundleApp(new URL('../apps/poison.ts', import.meta.url))
const idleCode = `${poison.code}\n`
const idle = { ...poison, code: idleCode, hash: createHash('sha256').update(idleCode).digest('hex') }

async function house(t: TestContext, partitions: number) {
  const data = await mkdtemp(join(tmpdir(), 'hence-rehearsal-'))
  let ahead = 0
  const clock = {
    ...systemClock,
    now: () => systemClock.now() + ahead,
    pass(ms: number) {
      ahead += ms
    },
  }
  const random = randomFrom(partitions)
  const engines: Engine<App>[] = []
  t.after(async () => {
    for (const engine of engines) await engine.close()
    await rm(data, { recursive: true })
  })
  const open = async (app: AppBundle, options: object = {}): Promise<Engine<App>> => {
    const engine: Engine<App> = await createEngine({
      ...{ app, data, partitions, clock, windowMs: 3_600_000, checkpointRows: 40, report() {} },
      handlers: { letter: { triesMax: 2, delayMs: 1, delayMsMax: 1, deliver } },
      ...options,
    } as never)
    engines.push(engine)
    return engine
  }
  let tries = 0
  const deliver = async ({ input: { text } }: { input: { text: string } }) => {
    if (text.endsWith('4') || ++tries % 3 === 0) throw new Error('the post office is closed')
  }
  /** Requests of all kinds; time passes. */
  const work = async (engine: Engine<App>, from: number) => {
    for (let i = from; i < from + 36; i += 12) {
      const sent = Array.from({ length: 12 }, (_, n) => {
        const [k, to] = [i + n, `a${((i + n) * 3) % 11}`]
        const [type, input] = [
          ['pay', { from: `a${k % 7}`, to, cents: k }],
          ['seat', { to, what: `s${k % 3}` }],
          ['bed', { to, what: `b${k % 3}` }],
          ['pay', { from: to, to: `a${k % 7}`, cents: k % 60 }],
          ['leave', { to, what: '' }],
        ][k % 5] as [string, object]
        return engine.submit(type, input as never, { requestId: uuid7(clock.now(), random) })
      })
      await Promise.all(sent)
      clock.pass(700)
    }
  }
  /** The last checkpoint is equal to what the log gives; undefined if there is none to compare. */
  const rehearsed = (generation = 0, positions: readonly number[] = []) => {
    const directory = data
    return rehearse({ directory, generation, derivationMs: 400, positions, share: 1 }, t.signal)
  }
  return { data, clock, open, work, rehearsed }
}

async function promote(engine: Engine<App>, requestId: string): Promise<number> {
  const { sha256: diff } = await engine.reprocessing.diff()
  return (await engine.reprocessing.promote({ diff }, { requestId })).generation
}

// Each rehearsal starts a process.
for (const partitions of process.env['HENCE_RUNS'] ? [1, 3] : [3]) {
  test(`other code, a promotion, and back, ${partitions} partitions: no difference`, async (t) => {
    const { open, work, rehearsed } = await house(t, partitions)
    let engine = await open(first)
    await work(engine, 0)
    await engine.close()
    engine = await open(later, { onCodeChange: 'continue' })
    assert.ok(await rehearsed())
    await work(engine, 100)
    assert.equal((await rehearsed())!.version, engine.stats().version)
    await engine.reprocessing.start({ app: strict } as never)
    await engine.reprocessing.caughtUp()
    assert.equal(await rehearsed(1), undefined)
    assert.equal(await promote(engine, 'p1'), 1)
    await rehearsed(1)
    await work(engine, 200)
    assert.equal((await rehearsed(1))!.version, engine.stats().version)
    assert.equal(await promote(engine, 'p2'), 0)
    await rehearsed()
    await work(engine, 300)
    await engine.close()
    assert.equal((await rehearsed())!.generation, 0)
  })

  test(`with much forgotten, and under load, ${partitions} partitions: no difference`, async (t) => {
    const { open, work, rehearsed, clock } = await house(t, partitions)
    const engine = await open(first)
    for (let hour = 0; hour < 3; hour++) {
      await work(engine, 100 * hour)
      clock.pass(3_600_000)
    }
    await work(engine, 300)
    let isOver = false
    const load = (async () => {
      for (let i = 400; !isOver; i += 60) await work(engine, i)
    })()
    for (let i = 0; i < 2; i++) assert.ok(await rehearsed())
    isOver = true
    await load
    await engine.close()
    assert.ok(await rehearsed())
  })
}

test('a ruling behind the checkpoint, and one after other code', async (t) => {
  const { open, rehearsed } = await house(t, 1)
  const options = { derivationMs: 400, checkpointRows: 60, handlers: undefined }
  const count = (engine: Engine<App>, n: number) =>
    Array.from({ length: n }, (_, i) =>
      engine.submit('count', { jar: `b${i}` } as never, { requestId: `${n}-${i}` }),
    )
  const before = await open(idle, options)
  await before.close()
  const engine = await open(poison, { ...options, onCodeChange: 'continue' })
  const walk = engine.submit('walk', { jar: 'a', step: 0 } as never, { requestId: 'walk' })
  await Promise.all([walk, ...count(engine, 30)])
  const [last] = await Promise.all(count(engine, 1))
  const end = Number(last!.token.split(':')[1]) + 1
  const { positions } = (await rehearsed(0, [end]))!
  assert.ok(positions[0]! > 2 && positions[0]! < end, `${positions} of ${end}`)
  await engine.close()
  assert.ok(await rehearsed())
})

test('whatever somebody has changed is named', async (t) => {
  const { data, open, work, rehearsed } = await house(t, 3)
  const engine = await open(first)
  await work(engine, 0)
  await engine.close()
  assert.ok(await rehearsed())
  const collections = ['t:accounts', 't:hence.effects', 'i:accounts:byCents', 'decided']
  const store = await openLmdbStore({ directory: stateFolder(data, 0), collections })
  t.after(() => store.close())
  for (const collection of collections) {
    const [[key, text]] = [...store.range(collection)] as [[string, string]]
    const changed = collection === 't:accounts' ? text.replace(/\d/, '77') : undefined
    await store.write([[collection, [[key, changed]]]])
    const name = collection === 'decided' ? 'outcomes' : collection.replace(/^t:/, '')
    await assert.rejects(rehearsed(), (error: HenceError) => {
      assert.equal(error.code, 'rehearsal-differs', error.message)
      assert.ok(error.message.includes(`{"table":"${name}","key":[`), error.message)
      return true
    })
    await store.write([[collection, [[key, text]]]])
  }
})

test('a parked correction that is lost or altered is named', async (t) => {
  const { data, open } = await house(t, 1)
  const clock = new HandClock()
  const storage = await openDirectory({ directory: data, partitions: 1, clock, report() {} })
  const append = storage.log.append.bind(storage.log)
  const gate = Promise.withResolvers<void>()
  let isHeld = false
  storage.log.append = async (partition, records) => {
    if (isHeld) await gate.promise
    // All timers of the key are due then: the correction waits behind those that do not go off with it.
    isHeld = decodeRecord(records[0] as Buffer).kind === 'correction'
    if (isHeld) clock.pass(3_600_000)
    return append(partition, records)
  }
  const engine = await open(await rungOrders(1), {
    ...{ data: storage, clock, handlers: undefined, checkpointRows: 1 },
  })
  await engine.submit('place', { name: 'a' } as never, { requestId: 'r' })
  await engine.reprocessing.start({ app: await rungOrders(2) } as never)
  const promoted = promote(engine, 'p1')
  promoted.catch(() => {})
  const collections = ['t:hence.parked']
  const copy = `${data}.copy`
  t.after(() => rm(copy, { recursive: true }))
  let entry: [string, string] | undefined
  for (; entry === undefined; await pause(20)) {
    await rm(copy, { recursive: true, force: true })
    await mkdir(stateFolder(copy, 1), { recursive: true })
    await copyLmdbStore(stateFolder(data, 1), stateFolder(copy, 1))
    const store = await openLmdbStore({ directory: stateFolder(copy, 1), collections })
    entry = [...store.range('t:hence.parked')][0] as typeof entry
    await store.close()
  }
  for (const each of ['log', 'code']) await cp(join(data, each), join(copy, each), { recursive: true })
  gate.resolve()
  await promoted
  const [key, text] = entry
  assert.equal(JSON.parse(text).kind, 'correction')
  const rehearsed = () =>
    rehearse({ directory: copy, generation: 1, derivationMs: 5_000, positions: [0], share: 1 }, t.signal)
  assert.ok(await rehearsed())
  for (const changed of [undefined, text.replace('"at":1', '"at":2')]) {
    const store = await openLmdbStore({ directory: stateFolder(copy, 1), collections })
    await store.write([['t:hence.parked', [[key, changed]]]])
    await store.close()
    await assert.rejects(rehearsed(), ({ code, message }: HenceError) => {
      assert.equal(code, 'rehearsal-differs', message)
      assert.match(message, /\{"table":"hence.parked","key":\["a",-?\d+\]\}/)
      return true
    })
  }
})
