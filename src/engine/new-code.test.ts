import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { backup, restore, verify } from 'hence/offline'
import type * as made from '../../test/apps/statements.ts'
import { appsOf } from '../../test/apps.ts'
import { crashAt } from '../../test/crash-points.ts'
import { engineHome } from '../../test/engine-home.ts'
import { uuid7 } from '../../test/ids.ts'
import { randomFrom } from '../../test/random.ts'
import { operatorError } from '../failure.ts'
import {
  type App,
  type AppBundle,
  createEngine,
  type Engine,
  type HenceError,
  type Row,
  type Standby,
  type Storage,
} from '../index.ts'
import { findControls } from '../log/controls.ts'
import { memoryLog } from '../log/memory-log.ts'
import { everyPartition } from '../log/partitions.ts'
import { type MemoryStorage, memoryStorage } from '../testing/index.ts'
import { CarrierStore, memoryCarrier } from '../testing/memory-carrier.ts'

// Code that continues, and whose new tables get their rows from the past.

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/statements.ts'))
const bare = await apps.bare()
const whole = await apps.grown(false)
const filled = await apps.grown(true)

const continuing = { onCodeChange: 'continue' }

function open(data: Storage, code: AppBundle, options: object = {}): Promise<Engine<App>> {
  return createEngine({ app: code, data, report: () => {}, ...options } as never) as Promise<Engine<App>>
}

const bundleOf = (code: string) => ({
  ...{ code, files: [] },
  hash: createHash('sha256').update(code).digest('hex'),
})

/** Payments and moves, some refused, many at once. */
async function trade(engine: Engine<App>, count: number, seed: number, suffix = ''): Promise<void> {
  const random = randomFrom(seed)
  const pick = (most: number) => Math.floor(random() * most)
  for (let sent = 0; sent < count; ) {
    const batch = Array.from({ length: Math.min(200, count - sent) }, () => {
      const account = `account-${pick(Math.ceil(count / 20))}${suffix}`
      const requestId = uuid7(Date.now())
      const [type, input] =
        pick(4) === 0
          ? ['move', { account, to: `account-${pick(count)}${suffix}`, cents: pick(1_000) }]
          : ['pay', { account, cents: pick(1_000) }]
      return engine.submit(type as never, input as never, { requestId })
    })
    await Promise.all(batch)
    sent += batch.length
  }
  await engine.idle()
}

async function rowsOf(engine: Engine<App>): Promise<unknown[]> {
  const names = ['balances', 'entries', 'totals', 'peaks']
  return Promise.all(names.map((name) => engine.scan(name as never, { limit: 1_000_000 })))
}

for (const [partitions, count] of [
  [1, 20_000],
  [8, 4_000],
] as const) {
  test(`rows from ${count} old messages are those of a table that was there from the start (${partitions} partitions)`, async () => {
    const data = memoryStorage({ partitions })
    let engine = await open(data, bare)
    await trade(engine, count, 1)
    await engine.close()
    const other = await open(memoryStorage({ partitions }), whole)
    await trade(other, count, 1)
    engine = await open(data, filled, continuing)
    const [rows, expected] = [await rowsOf(engine), await rowsOf(other)]
    assert.deepEqual(rows, expected)
    // Later requests find them.
    await Promise.all([trade(engine, 400, 2), trade(other, 400, 2)])
    assert.deepEqual(await rowsOf(engine), await rowsOf(other))
    const digest = await engine.digest()
    await engine.close()
    await other.close()
    const again = await open(await copyOf(data), filled)
    assert.equal(await again.digest(), digest)
    await again.close()
  })
}

/** Storage with the same log, code and nothing else. */
async function copyOf(data: MemoryStorage): Promise<MemoryStorage> {
  const { id, partitions } = data.log
  const log = memoryLog({ id, partitions })
  for (const partition of everyPartition(log))
    for await (const { records } of data.log.read(partition, 0)) await log.append(partition, records)
  const copy = memoryStorage({ partitions })
  return { ...copy, log, kept: async (name) => (await copy.kept(name)) ?? data.kept(name) }
}

/** Storage whose process ends before the n-th append. */
function endsAt(data: MemoryStorage, n: number): MemoryStorage {
  let left = n
  const { log } = data
  const append = async (partition: number, records: readonly Uint8Array[]) => {
    if (--left <= 0) throw operatorError('log-write-failed', 'The process is dead.')
    return log.append(partition, records)
  }
  const { id, partitions } = log
  return { ...data, log: { id, partitions, append, ...boundTo(log, 'read', 'end', 'close') } }
}

function boundTo<T, K extends keyof T>(of: T, ...names: K[]): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, (of[name] as () => void).bind(of)])) as never
}

/** Long names make many records of few rows. */
const longNames = 'x'.repeat(1_500)

for (const partitions of [1, 3]) {
  test(
    crashAt('any turn of the event loop', `a fill is made again or finished (${partitions} partitions)`),
    async () => {
      const data = memoryStorage({ partitions })
      let engine = await open(data, bare)
      await trade(engine, 300, 3, longNames)
      await engine.close()
      const whole = await copyOf(data)
      engine = await open(whole, filled, continuing)
      const [rows, digest] = [await rowsOf(engine), await engine.digest()]
      await engine.close()
      let finished = 0
      for (let [n, isDone] = [1, false]; !isDone; n++) {
        const copy = await copyOf(data)
        const started = open(endsAt(copy, n), filled, continuing)
        isDone = await started.then(
          (ended) => ended.close().then(() => true),
          () => false,
        )
        const at = `before append ${n}`
        // Where the version record is in the log, the new code needs no permission to start.
        const { facts, unfinished } = await findControls(copy.log, new Array(partitions).fill(0))
        const isInForce = facts.length > 1 || unfinished !== undefined
        if (isInForce && !isDone) finished++
        else if (!isInForce) {
          const before = await open(await copyOf(copy), bare)
          assert.deepEqual(await before.scan('balances' as never, { limit: 10_000 }), rows[0], at)
          await before.close()
        }
        engine = await open(copy, filled, isInForce ? {} : continuing)
        assert.deepEqual(await rowsOf(engine), rows, at)
        await engine.close()
        engine = await open(await copyOf(copy), filled)
        assert.equal(await engine.digest(), digest, at)
        await engine.close()
      }
      assert.ok(finished >= 2 * partitions, `${finished} crashes behind the version record`)
    },
  )
}

test('a fill that throws names the record, and nothing is changed', async () => {
  const data = memoryStorage({ partitions: 2 })
  let engine = await open(data, bare)
  await trade(engine, 200, 4)
  await engine.close()
  const ends = () => Promise.all([0, 1].map((partition) => data.log.end(partition)))
  const before = await ends()
  for (const [how, why] of [
    ['throws', /"totals" stopped at record \d+ of partition [01]: no 9\d\d cents\. Nothing/],
    ['infinite', /"entries" stopped at record \d+ of partition [01]: A part of a key is infinite/],
  ] as const) {
    await assert.rejects(open(data, await apps.grown(how), continuing), (error: HenceError) => {
      assert.equal(error.code, 'fill-failed')
      assert.equal(error.advice, 'change')
      assert.match(error.message, why)
      return true
    })
    assert.deepEqual(await ends(), before)
  }
  engine = await open(data, bare)
  await engine.close()
  engine = await open(data, filled, continuing)
  await engine.close()
})

test('a fill that does not end says whether some of its rows are in the log', async () => {
  const code = (more: string) =>
    bundleOf(`
      const { app, scopes } = require('hence')
      const any = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
      const [account] = scopes('account')
      const pay = account.request('pay', { input: any, key: (input) => input.account, derive: () => null })
      ${more}`)
  const slow = code(`
    const counts = account.table('counts', { value: any })
    const fills = [account.fill(counts, pay, (rows) => {
    for (let n = 0; n < 3e8; n++);
    rows.put({})
  })]
    module.exports.default = app('bank', { requests: [pay], tables: [counts], fills })`)
  const data = memoryStorage()
  const engine = await open(
    data,
    code(`module.exports.default = app('bank', { requests: [pay], tables: [] })`),
  )
  await engine.submit('pay' as never, { account: 'ada' } as never, { requestId: 'r1' })
  await engine.close()
  const fails = (text: RegExp, options: object) =>
    assert.rejects(open(data, slow, { derivationMs: 20, ...options }), (error: HenceError) => {
      assert.equal(error.code, 'fill-failed')
      assert.match(error.message, text)
      return true
    })
  await fails(/"counts" stopped at record 1 of partition 0: it did not end in 20 ms\. Nothing/, continuing)
  await assert.rejects(open(endsAt(data, 2), slow, continuing), { code: 'log-write-failed' })
  await fails(/it did not end in 20 ms\. Some of its rows are in the log already/, {})
  await (await open(data, slow)).close()
})

test('a fill whose rows cannot be saved does not blame the fill', async () => {
  const data = memoryStorage()
  let engine = await open(data, bare)
  await trade(engine, 200, 8)
  await engine.close()
  const openStore: Storage['openStore'] = async (name, ...rest) => {
    const store = await data.openStore(name, ...rest)
    if (String(name).startsWith('view.totals.fill'))
      store.write = () => Promise.reject(new Error('no space left'))
    return store
  }
  const full = { ...data, openStore }
  await assert.rejects(open(full, filled, { ...continuing, checkpointRows: 1 }), {
    code: 'checkpoint-failed',
    advice: 'retry',
  })
  engine = await open(data, bare)
  await engine.close()
})

test('a fill gets no message of a version that its code does not know', async () => {
  const counting = (version: number, more: string) =>
    bundleOf(`
      const { app, scopes } = require('hence')
      const any = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
      const [account] = scopes('account')
      const pay = account.request('pay', {
        version: ${version}, upcast: ${version === 2 ? '{ 1: (older) => older }' : '{}'}, input: any,
        key: (input) => input.account, derive: () => null,
      })
      ${more}`)
  const newer = counting(2, `module.exports.default = app('bank', { requests: [pay], tables: [] })`)
  const older = counting(
    1,
    `const counts = account.table('counts', { value: any })
    const fills = [account.fill(counts, pay, (rows) => rows.put({}))]
    module.exports.default = app('bank', { requests: [pay], tables: [counts], fills })`,
  )
  const data = memoryStorage()
  const engine = await open(data, newer)
  await engine.submit('pay' as never, { account: 'ada' } as never, { requestId: 'r1' })
  await engine.close()
  await assert.rejects(open(data, older, continuing), (error: HenceError) => {
    assert.equal(error.code, 'unknown-version')
    assert.match(
      error.message,
      /^Record 0:1 holds a request "pay" of version 2, and this code knows version 1 al/,
    )
    return true
  })
})

test('filled rows are reported like other changes, and views fold them', async () => {
  const data = memoryStorage({ partitions: 2 })
  let engine = await open(data, bare)
  await trade(engine, 400, 5)
  await engine.close()
  const sums = bundleOf(`
    const { viewsOf } = require('hence')
    const value = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
    module.exports.default = [viewsOf()('sums', { value, tables: {
      entries(rows, { before, after }) {
        const { cents, count } = rows.get('all') ?? { cents: 0, count: 0 }
        rows.put('all', { cents: cents + after.cents - (before?.cents ?? 0), count: count + 1 })
      },
    } })]`)
  const views = { views: [sums] }
  engine = await open(data, filled, { ...continuing, ...views })
  const entries = (await engine.scan('entries' as never, { limit: 10_000 })) as Row<
    [string, number],
    { cents: number }
  >[]
  const sum = { cents: entries.reduce((all, { value }) => all + value.cents, 0), count: entries.length }
  const summed = async () => {
    await engine.idle()
    const after = engine.stats().applied.map((end, partition) => `${partition}:${end - 1}`)
    for (;;) {
      try {
        return await engine.get('sums' as never, ['all'] as never, { after })
      } catch (error) {
        if ((error as HenceError).code !== 'view-building') throw error
        await new Promise(setImmediate)
      }
    }
  }
  assert.deepEqual(await summed(), sum)
  const [{ key }] = entries as [Row<[string, number]>]
  const { changes } = await engine.history('entries' as never, key as never)
  assert.deepEqual(
    changes.map(({ kind, requestId, before }) => ({ kind, requestId, before })),
    [{ kind: 'filled', requestId: undefined, before: undefined }],
  )
  const reported = new Map<string, unknown>()
  const { applied } = engine.stats()
  for await (const { position, changes } of engine.changes({ from: '0.0' })) {
    for (const { table, key, after } of changes) if (table === 'entries') reported.set(key.join(), after)
    if (position === applied.join('.')) break
  }
  assert.deepEqual(reported, new Map(entries.map(({ key, value }) => [key.join(), value])))
  await engine.close()
  // The log is derived again for a view where the traces are gone.
  const copy = await copyOf(data)
  engine = await open(copy, filled, views)
  assert.deepEqual(await summed(), sum)
  await engine.reprocessing.start({ version: engine.stats().version }, { again: true })
  const { sha256: diff, ...found } = await engine.reprocessing.diff()
  // The fills give what the code itself would have derived, so a candidate of it differs in nothing.
  assert.deepEqual(
    found.tables.filter(({ added, removed, changed }) => added + removed + changed > 0),
    [],
  )
  await engine.reprocessing.promote({ diff, note: 'again' }, { requestId: 'again' })
  // The candidate has the rows by its own derivations, and the view those of the candidate.
  assert.deepEqual(await summed(), sum)
  await engine.close()
})

test('a standby follows a fill, and a directory with one is verified, backed up and copied', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  const start = async (name: string, code: AppBundle, more: object = {}) => {
    // As a deployment leaves it: each version that derived something is there.
    await mkdir(join(home, name, 'code'), { recursive: true })
    await writeFile(join(home, name, 'code', `${bare.hash}.js`), bare.code)
    const carrier = { log: memoryCarrier(store), partitions: 3, address: `http://${name}` }
    return closing(await open(join(home, name) as never, code, { ...carrier, signal, ...more }))
  }
  const active = await start('a', bare)
  await trade(active, 300, 6)
  const progress: object[] = []
  const next = start('b', filled, {
    wait: true,
    ...continuing,
    progress: (far: object) => progress.push(far),
  })
  await active.close()
  const filling = await next
  const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<App>>()
  const last = start('c', filled, { wait: true, standby })
  const reads = await offered
  const rows = await rowsOf(filling)
  assert.ok((rows[2] as unknown[]).length > 10)
  assert.deepEqual(await rowsOf(reads as never), rows)
  assert.ok(
    progress.some((far) => !('follows' in far)),
    JSON.stringify(progress),
  )
  const digest = await filling.digest()
  await filling.close()
  const taken = await last
  assert.equal(await taken.digest(), digest)
  await trade(taken, 50, 7)
  const after = await taken.digest()
  await taken.close()

  const data = join(home, 'c')
  const { flaws, history } = await verify({ data })
  assert.deepEqual([flaws, history.checked], [[], true])
  await backup({ data, to: join(home, 'backup') })
  await restore({ from: join(home, 'backup'), to: join(home, 'restored') })
  const restored = await open(join(home, 'restored') as never, filled)
  closing(restored)
  assert.equal(await restored.digest(), after)
})
