import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/bank.ts'
import type * as wallets from '../../test/apps/wallet.ts'
import { appsOf } from '../../test/apps.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import type { Storage } from '../storage/storage.ts'
import { type MemoryStorage, memoryStorage } from '../testing/index.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../../test/apps/bank.ts'))
const { wallet } = appsOf<typeof wallets>(import.meta.resolve('../../test/apps/wallet.ts'))

// Reprocessing that is interrupted between two steps: by closing, an error, or lost files.

const [plain, costly] = [await bank(), await bank({ fee: 3 })]

function open(data: Storage, code: AppBundle = plain, options: object = {}): Promise<Engine<App>> {
  const given = { app: code, data, report: () => {}, handlers: {}, ...options }
  return createEngine(given as never) as Promise<Engine<App>>
}

async function pay(engine: Engine<App>, count: number, name = 'r'): Promise<void> {
  const payments = Array.from({ length: count }, (_, i) =>
    engine.submit('pay', { from: 'a1', to: `b${i % 5}`, cents: 11 } as never, { requestId: `${name}${i}` }),
  )
  await Promise.all(payments)
  await engine.idle()
}

/** Storage whose reads of the log wait for `gate.held`, so that a candidate stays half-way. */
function holding(data: MemoryStorage) {
  const gate: { held?: Promise<void> } = {}
  const { log } = data
  return {
    gate,
    data: {
      ...data,
      log: {
        ...boundTo(log),
        async *read(partition: number, from: number) {
          await gate.held
          yield* log.read(partition, from)
        },
      },
    } as Storage,
  }
}

function boundTo(log: MemoryStorage['log']) {
  const { id, partitions } = log
  return {
    id,
    partitions,
    append: log.append.bind(log),
    end: log.end.bind(log),
    close: log.close.bind(log),
  }
}

for (const [how, code, end] of [
  ['is discarded', 'reprocess-none', (engine: Engine<App>) => engine.reprocessing.discard()],
  ['belongs to an engine that closes', 'engine-closed', (engine: Engine<App>) => engine.close()],
] as const) {
  test(`calls that wait for a candidate that ${how} reject`, { timeout: 60_000 }, async () => {
    const { data, gate } = holding(memoryStorage({ partitions: 2 }))
    const engine = await open(data)
    await pay(engine, 3_000)
    const held = Promise.withResolvers<void>()
    gate.held = held.promise
    await engine.reprocessing.start({ app: costly })
    const waiting = [engine.reprocessing.caughtUp(), engine.reprocessing.diff()]
    const rejected = Promise.all(waiting.map((each) => assert.rejects(each, { code })))
    const ended = end(engine)
    held.resolve()
    await Promise.all([ended, rejected])
    await engine.close()
  })
}

test('nothing is started or discarded once the engine is closed', async () => {
  const data = memoryStorage()
  const engine = await open(data)
  await pay(engine, 10)
  await engine.reprocessing.start({ app: costly })
  await engine.reprocessing.caughtUp()
  await engine.close()
  const closed = { code: 'engine-closed' }
  await assert.rejects(engine.reprocessing.discard(), closed)
  await assert.rejects(engine.reprocessing.pause(), closed)
  await assert.rejects(engine.reprocessing.resume(), closed)
  await assert.rejects(engine.reprocessing.start({ app: costly }), closed)
  // The next engine finds the candidate where it was.
  const next = await open(data)
  assert.equal((await next.reprocessing.caughtUp()).generation, 1)
  await next.close()
})

test('a diff whose reader throws leaves the candidate following', async () => {
  const engine = await open(memoryStorage())
  await pay(engine, 10)
  await engine.reprocessing.start({ app: costly })
  const each = () => {
    throw new Error('the reader has gone')
  }
  await assert.rejects(engine.reprocessing.diff({ each }), /gone/)
  await pay(engine, 10, 's')
  const end = engine.stats().applied[0]
  while ((await engine.reprocessing.status())!.records < end!) await new Promise(setImmediate)
  await engine.close()
})

test('a candidate that is paused during a diff stays paused', async () => {
  const engine = await open(memoryStorage())
  await pay(engine, 10)
  await engine.reprocessing.start({ app: costly })
  await engine.reprocessing.caughtUp()
  const diff = engine.reprocessing.diff()
  const pausing = engine.reprocessing.pause()
  await Promise.allSettled([diff, pausing])
  assert.equal((await engine.reprocessing.status())!.state, 'paused')
  await engine.close()
})

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

test('a generation kept for a rollback whose state is lost is derived again with all its versions of the code', async () => {
  const data = memoryStorage({ partitions: 2 })
  const detour = await bank({ detour: true })
  let engine = await open(data)
  await pay(engine, 20)
  await engine.close()
  engine = await open(data, costly, { onCodeChange: 'continue' })
  await pay(engine, 20, 's')
  const before = await engine.digest()
  await engine.reprocessing.start({ app: detour })
  await promote(engine, 'p1')
  await engine.close()
  await data.dropStore(0)
  engine = await open(data, detour)
  await promote(engine, 'p2')
  assert.equal(await engine.digest(), before)
  await engine.close()
})

test('the generation before is kept for a rollback even if the process ends before it writes the manifest', async () => {
  const data = memoryStorage({ partitions: 2 })
  let isCut = false
  const cutting: Storage = {
    ...data,
    keep: (name, text) =>
      isCut && name.startsWith('state/') ? new Promise(() => {}) : data.keep(name, text),
  }
  const first = await open(cutting)
  await pay(first, 20)
  const before = await first.digest()
  await first.reprocessing.start({ app: costly })
  const { sha256: diff } = await first.reprocessing.diff()
  isCut = true
  void first.reprocessing.promote({ diff }, { requestId: 'p1' })
  while (first.stats().generation === 0) await new Promise(setImmediate)
  await first.idle()

  const engine = await open(data, costly)
  assert.equal((await engine.reprocessing.status())?.wasLive, true)
  await promote(engine, 'p2')
  assert.equal(await engine.digest(), before)
  await engine.close()
})

test('an unusable manifest counts as none', async () => {
  for (const text of ['null', '{}', '{"live":"x"}', '{"live":0,"candidate":{}}', 'no']) {
    const data = memoryStorage()
    const engine = await open(data)
    await pay(engine, 3)
    await engine.close()
    await data.keep('state/generations.json', text)
    const next = await open(data)
    assert.equal(await next.reprocessing.status(), undefined)
    await next.close()
  }
})

test('a candidate whose code is missing says so, and the live generation works', async () => {
  const data = memoryStorage({ partitions: 2 })
  let engine = await open(data)
  await pay(engine, 20)
  await engine.reprocessing.start({ app: costly })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.close()

  const without = () => lacking(data, costly.hash)
  for (let starts = 0; starts < 2; starts++) {
    engine = await open(without())
    await pay(engine, 5, `s${starts}`)
    const status = (await engine.reprocessing.status())!
    assert.deepEqual([status.state, status.error?.code, status.generation], ['failed', 'code-not-kept', 1])
    const lacking = { code: 'code-not-kept' }
    await assert.rejects(engine.reprocessing.diff(), lacking)
    await assert.rejects(engine.reprocessing.caughtUp(), lacking)
    await assert.rejects(engine.reprocessing.resume(), lacking)
    await assert.rejects(engine.reprocessing.pause(), lacking)
    await assert.rejects(engine.reprocessing.promote({ diff }, { requestId: 'p' }), lacking)
    await assert.rejects(engine.reprocessing.start({ app: await bank({ detour: true }) }), {
      code: 'reprocess-exists',
    })
    await engine.close()
  }

  // With the code it continues where it was.
  engine = await open(data)
  assert.equal((await engine.reprocessing.caughtUp()).generation, 1)
  await engine.close()
  engine = await open(without())
  await engine.reprocessing.start({ app: costly })
  assert.equal((await engine.reprocessing.caughtUp()).generation, 1)
  await engine.close()
  engine = await open(without())
  await engine.reprocessing.discard()
  assert.equal(await engine.reprocessing.status(), undefined)
  await engine.reprocessing.start({ app: costly })
  await engine.reprocessing.diff()
  await engine.close()
})

/** Storage that has lost the code of a version, until that is kept again. */
function lacking(data: Storage, version: string): Storage {
  let isLost = true
  return {
    ...data,
    async keep(name, text) {
      if (name.includes(version)) isLost = false
      await data.keep(name, text)
    },
    kept: async (name) => (isLost && name.includes(version) ? undefined : data.kept(name)),
  }
}

for (const [what, variant] of [
  ['sends events by a detour', { detour: true }],
  ['uses other keys', { suffix: 'x' }],
] as const) {
  test(`a diff does not change the result of code that ${what}, even if more requests follow in the same millisecond`, async () => {
    const clock = { now: () => Date.UTC(2026, 0, 1) }
    const other = await bank(variant)
    const data = memoryStorage({ partitions: 4, clock })
    const engine = await open(data, plain, { clock })
    const payAll = async (name: string) => {
      for (let i = 0; i < 30; i++) {
        const input = { from: `${'abcdef'[i % 6]}1`, to: `${'abcdef'[(i * 7 + 1) % 6]}1`, cents: 11 }
        await engine.submit('pay', input as never, { requestId: `${name}${i}` })
      }
    }
    await payAll('r')
    await engine.reprocessing.start({ app: other })
    await engine.reprocessing.diff()
    await payAll('s')
    await promote(engine, 'p')
    assert.equal((await engine.reprocessing.history()).length, 2)
    const digest = await engine.digest()
    await engine.close()
    const bare = await open({ ...memoryStorage({ partitions: 4 }), log: data.log }, other, { clock })
    assert.equal(await bare.digest(), digest)
    await bare.close()
  })
}

test('after a pause the candidate has caught up only once it has reached the end again', async () => {
  const { data, gate } = holding(memoryStorage())
  const engine = await open(data)
  await pay(engine, 10)
  await engine.reprocessing.start({ app: costly })
  await engine.reprocessing.caughtUp()
  await engine.reprocessing.pause()
  await pay(engine, 2_000, 's')
  const held = Promise.withResolvers<void>()
  gate.held = held.promise
  await engine.reprocessing.resume()
  let isThere = false
  const there = engine.reprocessing.caughtUp().then(({ records, of }) => {
    isThere = true
    assert.ok(of - records <= 1_000, `${records} of ${of}`)
  })
  for (let turns = 0; turns < 50; turns++) await new Promise(setImmediate)
  assert.equal(isThere, false)
  held.resolve()
  await there
  await engine.close()
})

test('a candidate that stops half-way leaves no reader of the log open', async () => {
  const data = memoryStorage({ partitions: 8 })
  const { log } = data
  let readings = 0
  const counting: Storage = {
    ...data,
    log: {
      ...boundTo(log),
      async *read(partition, from) {
        readings++
        try {
          yield* log.read(partition, from)
        } finally {
          readings--
        }
      },
    },
  }
  const engine = await open(counting)
  for (let i = 0; i < 200; i++) await pay(engine, 10, `r${i}-`)
  await engine.reprocessing.start({ app: costly })
  while ((await engine.reprocessing.status())!.records === 0) await new Promise(setImmediate)
  const { records, of } = await engine.reprocessing.pause()
  assert.ok(records < of)
  assert.equal(readings, 0)
  await engine.close()
})

test('the status names the last derivation of the candidate that threw', async () => {
  const [before, after] = await Promise.all([wallet(), wallet({ most: 10 })])
  const data = memoryStorage()
  const engine = await open(data, before)
  for (const [i, cents] of [5, 11, 12, 6].entries()) {
    await engine.submit('add', { to: 'a', cents } as never, { requestId: `r${i}` })
  }
  await engine.reprocessing.start({ app: after })
  const { failures, lastFailure } = await engine.reprocessing.caughtUp()
  assert.equal(failures, 2)
  assert.deepEqual(lastFailure, {
    type: 'add',
    key: 'a',
    code: 'derivation-threw',
    message: 'RangeError: 12 cents are too many',
    partition: 0,
    offset: 3,
  })
  await engine.close()
})
