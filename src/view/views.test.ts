import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type brokenViews from '../../test/apps/broken-views.ts'
import type { sales } from '../../test/apps/sales.ts'
import type views from '../../test/apps/sales-views.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { uuid7 } from '../../test/ids.ts'
import { randomFrom } from '../../test/random.ts'
import {
  type AppBundle,
  bundleApp,
  createEngine,
  type Engine,
  type EngineOptions,
  type LogMessage,
  type Row,
  type Storage,
  type WithViews,
} from '../index.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { scenario } from '../testing/scenario.ts'

type Sales = WithViews<typeof sales, typeof views>

const app = await bundleApp<never>(import.meta.resolve('../../test/apps/sales.ts'))
const module = await bundleApp<never>(import.meta.resolve('../../test/apps/sales-views.ts'))
const withCode = (code: string) => ({
  ...module,
  code,
  hash: createHash('sha256').update(code).digest('hex'),
})
const changed = withCode(`${module.code}\n/* changed */`)

function open(data: Storage, options: Partial<EngineOptions<Sales>> = {}): Promise<Engine<Sales>> {
  return createEngine<Sales>({ app, data, views: [module], report: () => {}, ...options })
}

/** Sends orders and cancellations, many at once; returns the tokens of the last ones, and the number of orders. */
async function trade(engine: Engine<Sales>, count: number, seed: number) {
  const random = randomFrom(seed)
  const pick = (most: number) => Math.floor(random() * most)
  let tokens: string[] = []
  let orders = 0
  for (let sent = 0; sent < count; ) {
    const batch = Array.from({ length: Math.min(40, count - sent) }, () => {
      const order = `order-${pick(count)}`
      const requestId = uuid7(Date.now())
      if (pick(4) === 0) return engine.submit('cancel', { order }, { requestId })
      orders++
      const input = { order, sku: `sku-${pick(5)}`, customer: `customer-${pick(7)}`, cents: pick(1_000) }
      return engine.submit('buy', input, { requestId })
    })
    tokens = (await Promise.all(batch)).map(({ token }) => token)
    sent += batch.length
    await new Promise(setImmediate)
  }
  return { tokens, orders }
}

/** All rows of both views, once they have folded everything. */
async function rowsOf(engine: Engine<Sales>): Promise<unknown> {
  await engine.idle()
  for (;;) {
    const { views: all, applied } = engine.stats()
    const total = applied.reduce((sum, each) => sum + each, 0)
    const failed = all.find(({ state }) => state === 'failed')
    if (failed) throw new Error(failed.error!.message)
    if (all.every(({ state, records }) => state === 'following' && records === total)) break
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  return { bySku: await engine.scan('by-sku'), journal: await engine.scan('journal') }
}

for (const partitions of [1, 2, 8]) {
  test(`a view fed live, one fed after a restart, and one built later are equal (${partitions} partitions)`, async () => {
    const data = memoryStorage({ partitions })
    const engine = await open(data)
    const { tokens, orders } = await trade(engine, 400, 1)
    const after = await engine.scan('by-sku', {}, { after: tokens })
    const live = (await rowsOf(engine)) as { bySku: unknown; journal: Row<string[], { text: string }>[] }
    assert.deepEqual(live.bySku, after)
    // The rows are what the table says.
    const sums = new Map<string, { orders: number; cents: number }>()
    for (const { value } of await engine.scan('orders')) {
      const { orders, cents } = sums.get(value.sku) ?? { orders: 0, cents: 0 }
      sums.set(value.sku, { orders: orders + 1, cents: cents + value.cents })
    }
    for (const { key, value } of await engine.scan('by-sku'))
      assert.deepEqual(value, sums.get(key[0]) ?? { orders: 0, cents: 0 })
    // Each request once, also where its claims were judged in another partition.
    const decided = live.journal.filter(({ value }) => value.text.startsWith('buy '))
    assert.equal(decided.length, orders)
    assert.ok(decided.some(({ value }) => value.text.includes('"rejected"')))
    // A request comes with what it has changed.
    const tokenOf = ({ value }: { readonly value: { readonly text: string } }) =>
      JSON.parse(value.text.slice(value.text.indexOf('{'))).token as string
    const changed = new Set(live.journal.filter(({ value }) => value.text.startsWith('orders ')).map(tokenOf))
    for (const each of decided)
      if (each.value.text.includes('"accepted"')) assert.ok(changed.has(tokenOf(each)), each.value.text)
    await engine.close()

    // Other requests while no view is open, and then the views again.
    const without = await createEngine<Sales>({ app, data, report: () => {} })
    await trade(without, 100, 2)
    await without.close()
    const again = await open(data)
    await trade(again, 100, 3)
    const fed = await rowsOf(again)
    await again.close()

    // From the traces, in other storage of the same log.
    const bare = memoryStorage({ partitions })
    const other = await open({ ...bare, log: data.log })
    assert.deepEqual(await rowsOf(other), fed)
    await other.close()
  })
}

test('a record waits for an earlier one of another partition whose append is under way', async () => {
  const data = memoryStorage({ partitions: 2 })
  const append = data.log.append.bind(data.log)
  const gate = Promise.withResolvers<void>()
  let isHeld = false
  data.log.append = async (partition, records) => {
    const appended = await append(partition, records)
    if (isHeld && partition === 0) await gate.promise
    return appended
  }
  const engine = await open(data)
  const orderIn = (partition: number) => {
    for (let i = 0; ; i++) if (partitionOf(`o${i}`, 2) === partition) return `o${i}`
  }
  const cancel = (partition: number) =>
    engine.submit('cancel', { order: orderIn(partition) }, { requestId: uuid7(Date.now()) })
  isHeld = true
  const first = cancel(0)
  await new Promise((resolve) => setTimeout(resolve, 5)) // Another millisecond of log time.
  const { token } = await cancel(1)
  const reading = engine.scan('journal', {}, { after: token })
  for (let turns = 0; turns < 100; turns++) await new Promise(setImmediate)
  assert.deepEqual(await engine.scan('journal'), [])
  gate.resolve()
  await Promise.all([first, reading])
  const texts = (await engine.scan('journal', {}, { after: (await first).token })).map(
    ({ value }) => value.text,
  )
  assert.deepEqual(
    texts.map((text) => /"token":"(\d):/.exec(text)![1]),
    ['0', '1'],
  )
  await engine.close()
})

test('the changes of a view: in its order, after a position, also after a crash; not of other rows', async () => {
  const data = memoryStorage({ partitions: 2 })
  // Rows in SQL are saved at once: then only what a follower has missed since is folded again.
  const views = [withCode(module.code.replace('sql:"lines",', ''))]
  const engine = await open(data, { views })
  const start = await engine.viewPosition('journal')
  const stop = new AbortController()
  type Line = {
    readonly position: string
    readonly key: unknown
    readonly before: unknown
    readonly text: string
  }
  const read = async (of: Engine<Sales>, from: string, count: number): Promise<Line[]> => {
    const lines: Line[] = []
    for await (const { position, changes } of of.changes({ view: 'journal', from, signal: stop.signal })) {
      for (const { key, before, after, table, token } of changes) {
        const { text } = after as { readonly text: string }
        assert.equal(table, 'journal')
        assert.ok(text.includes(`"token":"${token}"`))
        lines.push({ position, key, before, text })
      }
      if (lines.length >= count) break
    }
    return lines
  }
  const following = read(engine, start, 300)
  const { tokens } = await trade(engine, 200, 1)
  const rows = await engine.scan('journal', {}, { after: tokens })
  const lines = await following
  assert.ok(lines.every(({ before }) => before === undefined))
  const expected = rows.map(({ key, value }) => ({ key, text: value.text }))
  const shown = (of: readonly Line[]) => of.map(({ key, text }) => ({ key, text }))
  assert.deepEqual(shown(lines), expected.slice(0, lines.length))
  // Another engine finds what was saved alone, and folds the rest again; the follower gets what it lacks.
  const crashed = await open(data, { views })
  const at = lines[150]!.position
  const rest = lines.findIndex(({ position }, i) => i > 150 && position !== at)
  assert.deepEqual(shown(await read(crashed, at, expected.length - rest)), expected.slice(rest))
  for (const from of ['0.0', `9999.9999@${at.split('@')[1]}`, at.replace('@', '@f'), ''])
    await assert.rejects(read(crashed, from, 1), { code: 'position-unknown' }, from)
  const here = await crashed.viewPosition('journal')
  const ending = assert.rejects(read(crashed, here, 1), { code: 'position-unknown' })
  await crashed.useViews([changed])
  await ending
  await assert.rejects(read(crashed, at, 1), { code: 'position-unknown' })
  const last = read(crashed, await crashed.viewPosition('journal'), 1)
  await crashed.close()
  assert.deepEqual(await last, [])
  await engine.close()
})

test('a follower that has every change of a view goes on after a restart, also if other records came later', async () => {
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data)
  const { tokens } = await trade(engine, 50, 1)
  await engine.scan('by-sku', {}, { after: tokens })
  const last = await engine.viewPosition('by-sku')
  // Rejected, so no row of that view changes.
  for (const order of ['none', 'nobody']) {
    const { token, status } = await engine.submit('cancel', { order }, { requestId: uuid7(Date.now()) })
    assert.equal(status, 'rejected')
    await engine.scan('by-sku', {}, { after: token })
  }
  assert.notEqual(await engine.viewPosition('by-sku'), last)
  await engine.close()
  const again = await open(data)
  const stop = new AbortController()
  const following = again.changes({ view: 'by-sku', from: last, signal: stop.signal })
  const next = following[Symbol.asyncIterator]().next()
  await again.submit('buy', { order: 'new', sku: 'mug', customer: 'ann', cents: 7 }, { requestId: 'new' })
  assert.deepEqual((await next).value?.changes[0]?.after, { orders: 1, cents: 7 })
  stop.abort()
  // One that lacks a change is refused.
  const first = `0.0@${last.split('@')[1]}`
  const early = again.changes({ view: 'by-sku', from: first })[Symbol.asyncIterator]().next()
  await assert.rejects(early, { code: 'position-unknown' })
  await again.close()
})

test('messages come as a view gets them, and go on at a position with the same sequence, also after a crash', async () => {
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data)
  const names = { requests: ['buy', 'cancel'], events: ['bought'], tables: ['orders', 'totals'] } as const
  const read = async (of: Engine<Sales>, count: number, from?: string) => {
    const messages: LogMessage[] = []
    const positions: string[] = []
    for await (const page of of.messages({ ...names, ...(from !== undefined && { from }) })) {
      messages.push(...page.messages)
      positions.push(...page.messages.map(() => page.position))
      if (messages.length >= count) break
    }
    return { messages, positions }
  }
  const early = read(engine, 100)
  const { tokens } = await trade(engine, 200, 1)
  const journal = await engine.scan('journal', {}, { after: tokens })
  const { messages, positions } = await read(engine, journal.length)
  assert.deepEqual(
    messages.map(({ name, message }) => `${name} ${JSON.stringify(message)}`),
    journal.map(({ value }) => value.text),
  )
  const { messages: first } = await early
  assert.deepEqual(first, messages.slice(0, first.length))
  for (const [i, { sequence, requestId, message }] of messages.entries()) {
    assert.ok(i === 0 || sequence > messages[i - 1]!.sequence)
    assert.ok(requestId !== undefined)
    if ('requestId' in message) assert.equal(requestId, message.requestId)
    const story = await engine.story(requestId)
    assert.ok(story!.steps.some(({ token }) => token === message.token))
  }
  // Another engine on what was durable.
  const crashed = await open(data)
  const middle = positions.findIndex((position, i) => i >= 150 && position !== positions[i + 1])
  const rest = await read(crashed, messages.length - middle - 1, positions[middle])
  assert.deepEqual(rest.messages, messages.slice(middle + 1))
  const ending = read(crashed, 1, rest.positions.at(-1))
  await assert.rejects(read(crashed, 1, '0.99999'), { code: 'position-unknown' })
  await crashed.close()
  assert.deepEqual((await ending).messages, [])
  await engine.close()
})

test('a scenario has views', () => {
  scenario(app as AppBundle<Sales>, [module])
    .given('buy', { order: 'o1', sku: 'mug', customer: 'ann', cents: 300 }, { requestId: 'r1' })
    .thenRow('by-sku', ['mug'], { orders: 1, cents: 300 })
    .when('cancel', { order: 'o2' })
    .thenRejected('no-order')
    .given('cancel', { order: 'o1' })
    .thenRow('by-sku', ['mug'], { orders: 0, cents: 0 })
    .thenRow('journal', ['line', 1], {
      text:
        'buy {"requestId":"r1","principal":"","version":1,"input":{"order":"o1","sku":"mug","customer":"ann",' +
        '"cents":300},"outcome":{"status":"accepted","value":{"cents":300}},"at":1767225601000,"token":"0:1"}',
    })
})

test('after a promotion views are derived from the past of the generation that is live', async () => {
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data)
  await trade(engine, 200, 1)
  const before = await rowsOf(engine)
  const { reprocessing } = engine
  await reprocessing.start({ app }, { again: true })
  const { sha256: diff } = await reprocessing.diff()
  await reprocessing.promote({ diff }, { requestId: uuid7(Date.now()) })
  // The same code derives the same rows.
  assert.deepEqual(await rowsOf(engine), before)
  await reprocessing.discard()
  await trade(engine, 100, 2)
  const fed = await rowsOf(engine)
  await engine.close()
  const other = await open({ ...memoryStorage({ partitions: 2 }), log: data.log })
  assert.deepEqual(await rowsOf(other), fed)
  await other.close()
})

test('while a changed view is derived, the rows before answer; then they are gone', async () => {
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data)
  await trade(engine, 1_500, 1)
  const before = await rowsOf(engine)
  const { version } = engine.stats().views[0]!
  await engine.close()
  const again = await open(data, { views: [changed] })
  const [status] = again.stats().views
  assert.equal(status!.state, 'building')
  assert.equal(status!.answering, version)
  assert.deepEqual(await again.scan('by-sku'), (before as { bySku: unknown }).bySku)
  assert.deepEqual(await rowsOf(again), before)
  assert.deepEqual(
    again.stats().views.map(({ version }) => version),
    [changed.hash, changed.hash],
  )
  await again.close()
})

test('the digest of a view is the same on 1 and 8 partitions, after a rebuild, and from the log alone', async () => {
  const digests = new Set<string>()
  for (const partitions of [1, 8]) {
    const data = memoryStorage({ partitions })
    const engine = await open(data)
    for (let i = 0; i < 60; i++) {
      const order = `order-${i % 25}`
      const input = { order, sku: `sku-${i % 5}`, customer: `customer-${i % 7}`, cents: i }
      if (i % 4 === 3) await engine.submit('cancel', { order }, { requestId: `r${i}` })
      else await engine.submit('buy', input, { requestId: `r${i}` })
    }
    const empty = await engine.digest({ view: 'journal' })
    digests.add(await engine.digest({ view: 'by-sku' }))
    assert.notEqual(await engine.digest({ view: 'journal' }), await engine.digest({ view: 'by-sku' }))
    assert.equal(await engine.digest({ view: 'journal' }), empty)
    await engine.useViews([changed])
    await rowsOf(engine)
    digests.add(await engine.digest({ view: 'by-sku' }))
    await engine.close()
    const other = await open({ ...memoryStorage({ partitions }), log: data.log })
    await rowsOf(other)
    digests.add(await other.digest({ view: 'by-sku' }))
    assert.equal(await other.digest({ view: 'journal' }), empty)
    await other.submit('buy', { order: 'new', sku: 'mug', customer: 'ann', cents: 1 }, { requestId: 'new' })
    assert.ok(!digests.has(await other.digest({ view: 'by-sku' })))
    await assert.rejects(other.digest({ view: 'none' }), { code: 'unknown-table' })
    await assert.rejects(other.viewPosition('none'), { code: 'unknown-table' })
    await other.close()
  }
  assert.equal(digests.size, 1)
})

test('a view that is behind when the engine closes goes on at its position', async () => {
  const data = memoryStorage({ partitions: 2 })
  const engine = await open(data)
  await trade(engine, 1_500, 1)
  const expected = await rowsOf(engine)
  await engine.close()
  const building = await open(data, { views: [changed] })
  const folded = () => building.stats().views[0]!.records
  // A start folds 1,024 records.
  while (folded() < 2_000) await new Promise(setImmediate)
  assert.equal(building.stats().views[0]!.state, 'building')
  await building.close()
  const reached = folded()
  const anew: string[] = []
  const openStore: Storage['openStore'] = (name, collections, isAnew) => {
    if (isAnew) anew.push(`${name}`)
    return data.openStore(name, collections, isAnew)
  }
  const again = await open({ ...data, openStore }, { views: [changed] })
  const [status] = again.stats().views
  assert.ok(status!.records >= reached, `${status!.records} of ${status!.of}, ${reached} before`)
  assert.deepEqual(await rowsOf(again), expected)
  assert.deepEqual(anew, [])
  await again.close()
})

test('a view that throws, does not end or is not pure stops alone, and is derived anew by mended code', async () => {
  const broken = await bundleApp<never>(import.meta.resolve('../../test/apps/broken-views.ts'))
  const data = memoryStorage({ partitions: 2 })
  const reports: string[] = []
  const engine = await createEngine<WithViews<typeof sales, typeof brokenViews>>({
    app,
    data,
    views: [broken],
    derivationMs: 200,
    report: ({ level, code, message }) => reports.push(`${level} ${code} ${message}`),
  })
  const buy = (order: string) => {
    const input = { order, sku: 'a', customer: 'c', cents: 1 }
    return engine.submit('buy', input, { requestId: uuid7(Date.now()) })
  }
  for (const order of ['o1', 'o2', 'o3', 'o4']) {
    const { token } = await buy(order)
    const row = await engine.get('counts', ['orders'], { after: token })
    assert.equal(row?.n, Number(order[1]))
  }
  for (const name of ['throws', 'endless', 'impure'] as const)
    await assert.rejects(engine.scan(name), { code: 'view-failed', advice: 'operator' })
  const states = engine.stats().views.map(({ name, state }) => `${name} ${state}`)
  assert.deepEqual(states, ['throws failed', 'endless failed', 'impure failed', 'counts following'])
  const failed = reports.filter((each) => each.startsWith('alarm view-failed'))
  assert.equal(failed.length, 3)
  assert.match(failed.join(), /"throws" stopped at record \d+ of partition \d: three is too many/)
  await engine.close()
  const mended = {
    ...broken,
    code: broken.code.replace('n===3', 'n===-1').replace(/while\(n===3\)/, 'while(n===-1)'),
  }
  mended.hash = createHash('sha256').update(mended.code).digest('hex')
  const again = await createEngine<WithViews<typeof sales, typeof brokenViews>>({
    app,
    data,
    views: [mended],
    report: () => {},
  })
  await again.idle()
  assert.deepEqual(await again.scan('throws'), [{ key: ['orders'], value: { n: 4 } }])
  assert.deepEqual(await again.scan('endless'), [{ key: ['orders'], value: { n: 4 } }])
  await again.close()
})

test('a view is derived where outcomes of old requests are forgotten, and no trace is', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const given = { clock, windowMs: 60_000 }
  let sent = 0
  const buy = async (engine: Engine<Sales>) => {
    const input = { order: `order-${sent++}`, sku: 'sku', customer: 'ada', cents: 1 }
    await engine.submit('buy', input, { requestId: uuid7(clock.now()) })
    await engine.idle()
    clock.pass(60_000)
  }
  for (const checkpointRows of [20_000, 1]) {
    const engine = await createEngine<Sales>({ app, data, report: () => {}, ...given, checkpointRows })
    for (let n = 0; n < (checkpointRows === 1 ? 3 : 20); n++) await buy(engine)
    await engine.close()
  }
  const engine = await open(data, given)
  const rows = (await rowsOf(engine)) as { journal: Row<string[], { text: string }>[] }
  assert.equal(rows.journal.filter(({ value }) => value.text.startsWith('buy ')).length, sent)
  // Who reads messages from the oldest on gets those whose outcomes are kept.
  const kept: unknown[] = []
  const reading = new AbortController()
  for await (const { messages } of engine.messages({ requests: ['buy'], signal: reading.signal })) {
    kept.push(...messages.map(({ message }) => (message as { input: { order: string } }).input.order))
    if (kept.at(-1) === `order-${sent - 1}`) reading.abort()
  }
  assert.ok(kept.length > 0 && kept.length < sent, `${kept.length} of ${sent}`)
  await engine.close()
})
