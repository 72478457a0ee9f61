import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import type * as made from '../../test/apps/corrected-orders.ts'
import type * as grownApps from '../../test/apps/grown.ts'
import { appsOf } from '../../test/apps.ts'
import { engineHome } from '../../test/engine-home.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'
import { CarrierStore, memoryCarrier } from '../testing/memory-carrier.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/corrected-orders.ts'))
const { orders, yardOrHall } = apps

// Outcomes are corrected by a promotion, whatever the new code does with their requests.

function open(data: ReturnType<typeof memoryStorage>, code: AppBundle, options: object = {}) {
  const given = { app: code, data, report: () => {}, ...options }
  return createEngine(given as never) as Promise<Engine<App>>
}

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

for (const corrects of [false, true]) {
  test(`a request that has no key in the new code is corrected under its old key (${corrects ? 'with' : 'without'} a correct reaction)`, async () => {
    const data = memoryStorage({ partitions: 4 })
    const [first, upper] = [await orders('first'), await orders('upper', corrects)]
    const engine = await open(data, first)
    for (const name of ['a', 7]) await engine.submit('place', { name } as never, { requestId: `r${name}` })
    await engine.reprocessing.start({ app: upper })
    const { corrections } = await promote(engine, 'p')
    assert.equal(corrections.outcome, 2)
    assert.equal((await engine.story('r7'))?.outcome?.status, 'accepted')
    assert.deepEqual(
      await engine.get('orders', ['7'] as never),
      corrects ? { text: 'corrected failed' } : undefined,
    )
    const digest = await engine.digest()
    await engine.close()
    const bare = await open({ ...memoryStorage({ partitions: 4 }), log: data.log }, upper)
    assert.equal(await bare.digest(), digest)
    await bare.close()
  })
}

test('a promotion can go back to code that no longer defines a request', async () => {
  const data = memoryStorage({ partitions: 4 })
  const all = [await orders('first'), await orders('upper'), await orders('without')] as const
  const [first, upper, without] = all
  let engine = await open(data, first)
  await engine.submit('place', { name: 'a' } as never, { requestId: 'ra' })
  await engine.close()
  engine = await open(data, without, { onCodeChange: 'continue' })
  const before = await engine.digest()
  await engine.reprocessing.start({ app: upper })
  await promote(engine, 'p1')
  assert.notEqual(await engine.digest(), before)
  await promote(engine, 'p2')
  assert.equal(await engine.digest(), before)
  assert.deepEqual((await engine.story('ra'))?.outcome, { status: 'accepted', value: { text: 'a' } })
  await engine.close()
})

test('rows of a table that moved to another scope are corrected in both scopes', async () => {
  const corrected: string[] = []
  const [first, second] = [await yardOrHall('yard'), await yardOrHall('hall')]
  const engine = await open(memoryStorage(), first, {
    handlers: { note: ({ input }: { input: { text: string } }) => void corrected.push(input.text) },
  })
  for (const k of ['p', 'q']) await engine.submit('put', { k } as never, { requestId: k })
  await engine.reprocessing.start({ app: second })
  const { corrections } = await promote(engine, 'pr')
  assert.deepEqual(corrections, { outcome: 0, effect: 0, row: 4 })
  while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
  const both = ['p', 'q'].flatMap((k) => [`${k} undefined {"n":2}`, `${k} {"n":1} undefined`])
  assert.deepEqual(corrected.sort(), both.sort())
  await engine.close()
})

test('rows of a table that the live code lacks are no corrections: nobody has seen them', async () => {
  const { grown } = appsOf<typeof grownApps>(import.meta.resolve('../../test/apps/grown.ts'))
  const engine = await open(memoryStorage(), await grown(false))
  for (let i = 0; i < 100; i++)
    await engine.submit('put', { key: `k${i}`, n: i % 10 } as never, { requestId: `r${i}` })
  const records = engine.stats().applied[0]!
  await engine.reprocessing.start({ app: await grown(true) })
  const { corrections } = await promote(engine, 'p')
  await engine.idle()
  // Each note but those of 0 has doubled; the counts are new.
  assert.deepEqual(corrections, { outcome: 0, effect: 0, row: 90 })
  assert.equal(engine.stats().applied[0]! - records, 1 + 90)
  const letters = await engine.effects.list({ state: 'pending', limit: 1_000 })
  assert.deepEqual(
    new Set(letters.map(({ input }) => (input as { table: string }).table)),
    new Set(['notes']),
  )
  assert.equal((await engine.scan('counted' as never)).length, 100)
  await engine.close()
})

test('the history of a row that a correction has changed names the promotion', async () => {
  const code = (n: number) => {
    const code = `
      const { app, scopes } = require('hence')
      const any = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
      const [key] = scopes('key')
      const rows = key.table('rows', { value: any })
      const put = key.request('put', {
        input: any, key: (input) => input.key, derive(tx) { tx.put(rows, { n: ${n} }) },
      })
      const correct = key.correct((tx, { kind }) => {
        if (kind === 'row') tx.put(rows, { ...tx.get(rows), corrected: true })
      })
      module.exports.default = app('rows', { requests: [put], tables: [rows], reactions: [correct] })`
    return { code, hash: createHash('sha256').update(code).digest('hex'), files: [] } as unknown as AppBundle
  }
  const engine = await open(memoryStorage(), code(1))
  await engine.submit('put', { key: 'a' } as never, { requestId: 'r' })
  await engine.reprocessing.start({ app: code(2) })
  await promote(engine, 'p')
  await engine.idle()
  const { changes } = await engine.history('rows' as never, ['a'] as never)
  assert.deepEqual(
    changes.map(({ kind, requestId, after }) => ({ kind, requestId, after })),
    [
      { kind: 'correction', requestId: 'p', after: { n: 2, corrected: true } },
      { kind: 'request', requestId: 'r', after: { n: 2 } },
    ],
  )
  await engine.close()
})

test('requests go on beside corrections that ask the app nothing, and each retry gets what it got before', async () => {
  const code = (n: number) => {
    const code = `
      const { app, scopes } = require('hence')
      const any = { '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }
      const [key] = scopes('key')
      const put = key.request('put', { input: any, key: (input) => input.key, derive: () => ({ n: ${n} }) })
      module.exports.default = app('rows', { requests: [put], tables: [], reactions: [] })`
    return { code, hash: createHash('sha256').update(code).digest('hex'), files: [] } as unknown as AppBundle
  }
  const count = 2_000
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data, code(1))
  const send = (requestId: string) => engine.submit('put', { key: requestId } as never, { requestId })
  const ids = Array.from({ length: count }, (_, i) => `r${i}`)
  await Promise.all(ids.map(send))
  await engine.reprocessing.start({ app: code(2) })
  let promoted = false
  const promotion = promote(engine, 'p').finally(() => {
    promoted = true
  })
  const retries: unknown[] = []
  const fresh: unknown[] = []
  for (let i = 0; !promoted; i++) {
    await new Promise(setImmediate)
    const { value, corrected } = (await send(ids[count - 1 - (i % count)]!)) as never as Record<
      string,
      unknown
    >
    retries.push([value, corrected])
    const { value: of } = (await send(`fresh-${i}`)) as never as { value: { n: number } }
    if (!promoted) fresh.push(of.n)
  }
  assert.equal((await promotion).corrections.outcome > count, true)
  const [first, beside] = [{ n: 1 }, { status: 'accepted', value: { n: 2 } }]
  assert.deepEqual(
    new Set(retries.map((each) => JSON.stringify(each))),
    new Set([JSON.stringify([first, undefined]), JSON.stringify([first, beside])]),
  )
  assert.ok(fresh.includes(2), 'some requests are decided by the new code before all corrections are written')
  const digest = await engine.digest()
  await engine.close()
  const bare = await open({ ...memoryStorage({ partitions: 2 }), log: data.log }, code(2))
  assert.equal(await bare.digest(), digest)
  await bare.close()
})

test('corrections are kept in the carrier, since another machine may have to write them', async (t) => {
  const { home, closing } = await engineHome(t)
  const [first, upper] = [await orders('first'), await orders('upper')]
  const carrier = memoryCarrier(new CarrierStore())
  const at = { data: join(home, 'a'), log: carrier, partitions: 2 }
  const engine = await closing(await open(at.data as never, first, at))
  await engine.submit('place', { name: 'a' } as never, { requestId: 'r' })
  await engine.reprocessing.start({ app: upper })
  assert.equal((await promote(engine, 'p')).corrections.outcome, 1)
  for (const name of ['1.json', '1-0.ndjson'])
    assert.ok(await carrier.get(`promotions/${name}`), `the carrier has ${name}`)
})
