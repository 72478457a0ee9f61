import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import type * as made from '../../test/apps/charges.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { createEngine } from '../engine/open-engine.ts'
import { HenceError } from '../failure.ts'
import type { Report } from '../report.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { type Call, type DeliveryOptions, type Handler, type Handlers, handlers } from './handlers.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/charges.ts'))
const shop = await apps.shop()

// An engine whose handlers are driven by hand, under a clock that the test moves. Worse than anything is
// an effect that is lost, or one that is done under two ids.

interface Held extends Call {
  done(value?: unknown): void
  fail(error: unknown): void
}

/** Calls that a handler got and that wait to be ended. */
class Calls {
  readonly all: Held[] = []
  readonly handler: Handler = (call) =>
    new Promise((resolve, reject) => {
      this.all.push({ ...call, done: resolve, fail: reject })
    })

  get last(): Held {
    return this.all.at(-1)!
  }
}

async function start(
  options: {
    data?: ReturnType<typeof memoryStorage>
    clock?: HandClock
    charging?: DeliveryOptions
    noting?: DeliveryOptions
    random?: () => number
    partitions?: number
  } = {},
) {
  const { clock = new HandClock(), charging, noting, random = () => 1, partitions = 1 } = options
  const { data = memoryStorage({ clock, partitions }) } = options
  const charges = new Calls()
  const notes = new Calls()
  const reports: Report[] = []
  const engine = await createEngine({
    app: shop,
    data,
    clock,
    random,
    report: (each) => reports.push(each),
    handlers: {
      charge: { deliver: charges.handler as Handler<{ cents: number }, { paid: boolean }>, ...charging },
      note: { deliver: notes.handler, ...noting },
    },
  })
  let count = 0
  return {
    engine,
    data,
    clock,
    charges,
    notes,
    reports,
    async place(name: string, cents = 5) {
      const reply = await engine.submit('place', { order: name, cents }, { requestId: `place-${name}` })
      await settle()
      return reply
    },
    async remark(times: number) {
      const requestId = `remark-${count++}`
      await engine.submit('remark', { order: requestId, times }, { requestId })
      await settle()
    },
    /** Closes the engine; what is under way need not be waited for. */
    async close() {
      for (const call of [...charges.all, ...notes.all]) call.fail(new Error('it closes'))
      await engine.close()
    },
    redrive(effect: string, key: string, mayRepeat?: boolean) {
      const input = { effect, key, reason: 'because', ...(mayRepeat !== undefined && { mayRepeat }) }
      return engine.effects.redrive(input, { requestId: `redrive-${count++}`, principal: 'olga' })
    },
  }
}

test('an effect is delivered with its id, and its result comes back as a record', async () => {
  const { engine, charges, notes, place, close } = await start({ partitions: 3 })
  await engine.submit('place', { order: 'o1', cents: 7 }, { requestId: 'r1', principal: 'ann' })
  await settle()
  const { done, fail: _, signal, ...call } = charges.last
  assert.equal(signal.aborted, false)
  assert.deepEqual(call, {
    type: 'charge',
    input: { cents: 7 },
    id: call.id,
    attempt: 1,
    at: Date.UTC(2026, 0, 1),
    requestId: 'r1',
    principal: 'ann',
    key: 'o1',
  })
  assert.match(call.id, /^[0-9a-f-]{36}$/)
  assert.equal((await engine.effects.get(call.id))!.state, 'pending')
  done({ paid: true })
  await settle()
  assert.deepEqual(await engine.get('orders', ['o1']), { state: 'paid 7' })
  const { state, result, tries } = (await engine.effects.get(call.id))!
  assert.deepEqual([state, result, tries], ['done', { paid: true }, 1])
  assert.deepEqual(notes.last.input, { text: call.id })
  // The return value for an effect without a result is ignored.
  notes.last.done({ any: 'thing' })
  await place('o2')
  assert.equal((await engine.effects.get(notes.last.id))!.result, null)
  const story = await engine.story('r1', { principal: 'ann' })
  assert.deepEqual(
    story!.steps.map(({ kind, type, effects }) => [kind, type, effects.map((each) => each.type)]),
    [
      ['request', 'place', ['charge']],
      ['result', 'charge/result', ['note']],
      ['result', 'note/result', []],
    ],
  )
  charges.last.done({ paid: false })
  await settle()
  assert.deepEqual(await engine.get('orders', ['o2']), { state: 'declined' })
  notes.last.done()
  await close()
})

test('an effect of a request that was rejected or threw never exists', async () => {
  const { engine, charges, place, close } = await start()
  assert.equal((await place('o1', -1)).status, 'rejected')
  assert.equal((await place('o2', 0)).status, 'failed')
  assert.deepEqual(charges.all, [])
  for (const state of ['pending', 'done', 'dead'] as const)
    assert.deepEqual(await engine.effects.list({ state }), [])
  await close()
})

test('a try that fails is made again, later each time, by half at least of a delay that doubles', async () => {
  let random = 0
  const { engine, clock, charges, place, close } = await start({
    random: () => random,
    charging: { delayMs: 100, delayMsMax: 1_000 },
  })
  await place('o1')
  const { id } = charges.last
  const delays: number[] = []
  for (random of [0, 0.5, 0.999, 0, 0.5, 0.999]) {
    charges.last.fail(new Error('not now'))
    await settle()
    const { attempts } = (await engine.effects.get(id))!
    assert.deepEqual([attempts!.tries, attempts!.error], [charges.all.length, 'not now'])
    const delay = clock.next
    assert.equal(attempts!.nextAt, clock.now() + delay)
    delays.push(delay)
    clock.pass(delay - 1)
    await settle()
    const before = charges.all.length
    clock.pass(1)
    await settle()
    assert.deepEqual([charges.all.length, charges.last.attempt], [before + 1, before + 1])
    assert.equal(charges.last.id, id)
  }
  assert.deepEqual(delays, [50, 150, 400, 400, 750, 1_000])
  // Of the last try alone.
  clock.pass(1_234)
  charges.last.done({ paid: true })
  await settle()
  const { tries, ms } = (await engine.effects.get(id))!
  assert.deepEqual([tries, ms], [7, 1_234])
  await close()
})

test('a receiver may put the next try off, for a day at most', async () => {
  const { clock, charges, place, close } = await start({ charging: { delayMs: 100 } })
  await place('o1')
  for (const [retryAfterMs, expected] of [
    [5_000, 5_000],
    [1, 200],
    [1e12, 24 * 60 * 60 * 1000],
    ['soon', 800],
    [Number.NaN, 1_600],
  ]) {
    charges.last.fail(Object.assign(new Error('busy'), { retryAfterMs }))
    await settle()
    assert.equal(clock.next, expected)
    clock.pass(clock.next)
    await settle()
  }
  charges.last.done({ paid: true })
  await close()
})

test('tries without a delay leave a millisecond to others, however many there were', async () => {
  const { clock, charges, place, close, engine } = await start({
    charging: { delayMs: 0, triesMax: 2_000 },
  })
  await place('o1')
  while (charges.all.length <= 1_100) {
    charges.last.fail(new Error('busy'))
    await settle()
    assert.equal(clock.next, 1)
    clock.pass(1)
    await settle()
  }
  charges.last.done({ paid: true })
  await settle()
  assert.deepEqual(await engine.get('orders', ['o1']), { state: 'paid 5' })
  await close()
})

test('a clock that is set back or forward leaves delays what they are, or shortens them', async () => {
  const { engine, clock, charges, place, close } = await start({
    charging: { delayMs: 1_000, perSecond: 1_000 },
  })
  await place('o1')
  charges.last.fail(new Error('not now'))
  await settle()
  clock.pass(400)
  clock.pass(-3650 * 86_400_000)
  await settle()
  // How much of it had passed is unknown now.
  assert.equal(clock.next, 1_000)
  clock.pass(1_000)
  await settle()
  assert.equal(charges.all.length, 2)
  charges.last.fail(new Error('not now'))
  await settle()
  clock.pass(7300 * 86_400_000)
  await settle()
  assert.equal(charges.all.length, 3)
  charges.last.done({ paid: true })
  await settle()
  assert.deepEqual(await engine.get('orders', ['o1']), { state: 'paid 5' })
  await close()
})

test('so many at once, so many a second, in the order of their asking', async () => {
  const { engine, clock, notes, remark, close } = await start({ noting: { concurrency: 3, perSecond: 4 } })
  await remark(10)
  assert.equal(notes.all.length, 1)
  for (let i = 0; i < 4; i++) {
    clock.pass(250)
    await settle()
  }
  assert.equal(notes.all.length, 3, 'three under way, and the fourth waits for one of them')
  notes.all[1]!.done()
  await settle()
  assert.equal(notes.all.length, 4)
  notes.all[0]!.done()
  await settle()
  assert.equal(notes.all.length, 4, 'its slot comes later')
  while (notes.all.length < 10) {
    for (const call of notes.all) call.done()
    await settle()
    clock.pass(250)
    await settle()
  }
  notes.last.done()
  await settle()
  const texts = notes.all.map(({ input }) => Number((input as { text: string }).text.split(' ')[1]))
  assert.deepEqual(
    [...texts].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  )
  assert.equal((await engine.effects.list({ state: 'done' })).length, 10)
  await close()
})

const aborted = async (signal: AbortSignal) => signal.aborted || once(signal, 'abort')

test('a try that takes too long is aborted and counts as failed, whatever comes of it later', async () => {
  const { engine, clock, charges, reports, place, close } = await start({
    charging: { timeoutMs: 20, triesMax: 2, delayMs: 1 },
  })
  await place('o1')
  const { id, signal, done } = charges.last
  await aborted(signal)
  await settle()
  assert.equal((await engine.effects.get(id))!.attempts!.error, 'it took longer than 20 ms')
  done({ paid: true })
  await settle()
  assert.equal((await engine.effects.get(id))!.state, 'pending')
  clock.pass(1)
  await settle()
  assert.equal(charges.all.length, 2)
  await aborted(charges.last.signal)
  await settle()
  const { state, error, tries } = (await engine.effects.get(id))!
  assert.deepEqual([state, error, tries], ['dead', 'it took longer than 20 ms', 2])
  clock.pass(1_000)
  assert.equal(reports.filter(({ code }) => code === 'effect-dead').length, 1)
  await close()
})

test('an effect is given up after its last try, or at once when it is refused; then it reacts to that', async () => {
  const { engine, clock, charges, reports, place, close } = await start({
    charging: { triesMax: 3, delayMs: 10 },
  })
  await place('o1')
  for (let i = 0; i < 3; i++) {
    charges.last.fail(new Error(`no ${i} ${'x'.repeat(5_000)}`))
    await settle()
    clock.pass(1_000)
    await settle()
  }
  assert.equal(charges.all.length, 3)
  assert.equal((await engine.effects.get(charges.last.id))!.state, 'dead')
  const row = await engine.get('orders', ['o1'])
  assert.deepEqual([row!.state, row!.error!.length, row!.error!.slice(0, 6)], ['given up', 1_000, 'no 2 x'])

  await place('o2')
  charges.last.fail(new HenceError('effect-refused', 'change', 'no such card'))
  await settle()
  assert.deepEqual(await engine.get('orders', ['o2']), { state: 'given up', error: 'no such card' })
  assert.equal((await engine.effects.get(charges.last.id))!.tries, 1)

  // An error of Hence that asks for another try gets one.
  await place('o3')
  charges.last.fail(new HenceError('engine-closed', 'retry', 'later'))
  await settle()
  assert.equal((await engine.effects.get(charges.last.id))!.state, 'pending')

  // An effect that was done with an unusable result is not done again.
  for (const [name, nonsense] of [
    ['o4', { paid: 'yes' }],
    ['o5', undefined],
  ] as const) {
    await place(name)
    charges.last.done(nonsense)
    await settle()
    const { state, error } = (await engine.effects.get(charges.last.id))!
    assert.equal(state, 'dead')
    assert.match(error!, /^it was done, but its result does not fit/)
  }
  clock.pass(60_000)
  const alarms = reports.filter(({ level }) => level === 'alarm')
  assert.deepEqual(
    alarms.map(({ code, message }) => `${code}: ${message.replace(/\(?\w+-.*/, '…')}`),
    ['effect-dead: The effect "charge" …', 'effect-dead: 3 effects "charge" were given up, the last one …'],
  )
  await close()
})

test('what was given up is sent again under its id; after a day only when it may be done twice', async () => {
  const { engine, clock, charges, place, redrive, close } = await start()
  await place('o1')
  const { id } = charges.last
  const reasonOf = async (reply: ReturnType<typeof redrive>) => {
    const told = await reply
    return told.status === 'rejected' ? told.reason : told.status
  }
  const refuse = async () => {
    charges.last.fail(new HenceError('effect-refused', 'change', 'no'))
    await settle()
  }
  assert.equal(await reasonOf(redrive(id, 'o1')), 'effect-not-dead')
  assert.equal(await reasonOf(redrive('nobody', 'o1')), 'effect-unknown')
  await refuse()
  clock.pass(86_400_000)
  assert.equal(await reasonOf(redrive(id, 'o2')), 'effect-unknown', 'it was asked for under another key')
  assert.equal(await reasonOf(redrive(id, 'o1')), 'accepted')
  await settle()
  assert.deepEqual([charges.all.length, charges.last.id, charges.last.attempt], [2, id, 1])
  await refuse()
  clock.pass(1)
  assert.equal(await reasonOf(redrive(id, 'o1')), 'effect-may-repeat')
  await settle()
  assert.equal(charges.all.length, 2)
  assert.equal(await reasonOf(redrive(id, 'o1', true)), 'accepted')
  await settle()
  assert.equal(charges.all.length, 3)
  charges.last.done({ paid: true })
  await settle()
  const { state, redrives } = (await engine.effects.get(id))!
  assert.deepEqual([state, redrives], ['done', 2])
  assert.deepEqual(await engine.get('orders', ['o1']), { state: 'paid 5' })
  assert.equal(await reasonOf(redrive(id, 'o1', true)), 'effect-not-dead')
  await close()
})

test('what an earlier process may have done is given up when its receiver may have forgotten that', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const first = await start({ clock, data })
  await first.place('o1')
  first.charges.last.fail(new Error('not now'))
  await settle()
  await first.engine.close()
  clock.pass(3_600_001)
  const second = await start({ clock, data, charging: { idsKeptMs: 3_600_000 } })
  await settle()
  assert.equal(second.charges.all.length, 0)
  const [dead] = await second.engine.effects.list({ state: 'dead' })
  assert.match(dead!.error!, /may have been tried more than 3600000 ms ago/)
  // A new effect was never tried; a redriven one is sent again.
  await second.place('o2')
  assert.equal(second.charges.all.length, 1)
  await second.redrive(dead!.id, 'o1', true)
  await settle()
  assert.equal(second.charges.all.length, 2)
  for (const call of second.charges.all) call.done({ paid: true })
  await settle()
  assert.equal((await second.engine.effects.list({ state: 'done', type: 'charge' })).length, 2)
  for (const call of second.notes.all) call.done()
  await second.close()
})

test('what was not acknowledged is delivered by the next engine, under the same id', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const first = await start({ clock, data })
  await first.place('o1')
  await first.remark(5)
  for (const call of [...first.charges.all, ...first.notes.all]) call.fail(new Error('not now'))
  await settle()
  await first.engine.close()
  const second = await start({ clock, data })
  await settle()
  assert.deepEqual(second.notes.all.map(({ id }) => id).sort(), first.notes.all.map(({ id }) => id).sort())
  assert.equal(second.charges.last.id, first.charges.last.id)
  assert.equal(second.charges.last.attempt, 1)
  for (const call of [...second.charges.all, ...second.notes.all]) call.done({ paid: true })
  await settle()
  for (const call of second.notes.all) call.done()
  await second.engine.close()
  const third = await start({ clock, data })
  await settle()
  assert.deepEqual([third.notes.all.length, third.charges.all.length], [0, 0])
  assert.equal((await third.engine.effects.list({ state: 'done' })).length, 7)
  await third.engine.close()
})

test('a receiver that is down for thousands keeps no other effects from being tried', async () => {
  const { engine, notes, remark, clock, close } = await start({
    noting: { concurrency: 4_000, delayMs: 1_000_000 },
  })
  await remark(3_000)
  assert.equal(notes.all.length, 3_000)
  for (const call of notes.all) call.fail(new Error('down'))
  await settle()
  await remark(2)
  assert.equal(notes.all.length, 3_002)
  for (const call of notes.all.slice(3_000)) call.done()
  await settle()
  assert.equal((await engine.effects.list({ state: 'done' })).length, 2)
  clock.pass(2_000_000)
  await settle()
  assert.equal(notes.all.length, 6_002)
  for (const call of notes.all) call.done()
  await settle()
  assert.equal((await engine.effects.list({ state: 'done', limit: 10_000 })).length, 3_002)
  await close()
})

test('more effects than are known at once are all delivered, and once', { timeout: 600_000 }, async () => {
  const done = new Map<string, number>()
  const clock = new HandClock()
  const { promise: asked, resolve: allAsked } = Promise.withResolvers<void>()
  const { promise: redriven, resolve: goOn } = Promise.withResolvers<void>()
  const { promise: first600, resolve: were600 } = Promise.withResolvers<void>()
  const { promise: all, resolve: wereAll } = Promise.withResolvers<void>()
  let isOpen = false
  let begun = 0
  const engine = await createEngine({
    app: shop,
    data: memoryStorage({ clock, partitions: 2 }),
    clock,
    report: () => {},
    // However slow the machine is: both would try again what is held here.
    derivationMs: 600_000,
    handlers: {
      charge: () => ({ paid: true }),
      note: {
        concurrency: 500,
        timeoutMs: 600_000,
        async deliver({ id }) {
          if (!isOpen) throw new HenceError('effect-refused', 'change', 'not yet')
          // The first ones wait till all have been asked for, the others till one was sent again.
          await (begun++ < 600 ? asked : redriven)
          done.set(id, (done.get(id) ?? 0) + 1)
          if (done.size === 600) were600()
          if (done.size === 25_001) wereAll()
        },
      },
    },
  })
  const remark = (order: string, times: number) =>
    engine.submit('remark', { order, times }, { requestId: order })
  await remark('first', 1)
  await engine.idle()
  const [dead] = await engine.effects.list({ state: 'dead' })
  isOpen = true
  clock.pass(1)
  await Promise.all(Array.from({ length: 25 }, (_, i) => remark(`o${i}`, 1_000)))
  allAsked()
  await first600
  // It is older than those that are not known yet.
  await engine.effects.redrive(
    { effect: dead!.id, key: 'first', reason: 'because' },
    { requestId: 'redrive' },
  )
  goOn()
  await all
  await engine.idle()
  assert.deepEqual(await engine.effects.list(), [])
  assert.deepEqual(new Set(done.values()), new Set([1]))
  await engine.close()
})

test('closing waits for tries under way, aborts what takes longer, and loses nothing', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const first = await start({ clock, data })
  await first.place('soon')
  await first.place('never')
  const [soon, never] = first.charges.all as [Held, Held]
  const closing = first.engine.close()
  soon.done({ paid: true })
  await closing
  assert.deepEqual([soon.signal.aborted, never.signal.aborted], [false, true])
  never.done({ paid: true })
  await settle()
  const second = await start({ clock, data })
  await settle()
  assert.deepEqual(await second.engine.get('orders', ['soon']), { state: 'paid 5' })
  assert.deepEqual(
    second.charges.all.map(({ id, attempt }) => [id, attempt]),
    [[never.id, 1]],
  )
  await second.close()
})

test('handlers are for effects of the app; without them effects are kept', async () => {
  const data = memoryStorage()
  const unknown = createEngine({
    app: shop,
    data,
    report: () => {},
    handlers: {
      ...handlers<typeof made.shop>({ charge: () => ({ paid: true }), note() {} }),
      fax() {},
    } as never,
  })
  await assert.rejects(unknown, { code: 'option-invalid' })
  for (const bad of [
    { concurrency: 0 },
    { triesMax: Number.NaN },
    { timeoutMs: 2 ** 31 },
    { perSecond: 0 },
  ]) {
    const charge = { deliver: () => ({ paid: true }), ...bad }
    const opening = createEngine({ app: shop, data, report: () => {}, handlers: { charge, note() {} } })
    await assert.rejects(opening, { code: 'option-invalid' })
  }
  const reports: Report[] = []
  const report = (each: Report) => reports.push(each)
  let engine = await createEngine({ app: shop, data, report })
  await engine.submit('place', { order: 'o1', cents: 3 }, { requestId: 'r1' })
  assert.equal((await engine.effects.list()).length, 1)
  await engine.close()
  engine = await createEngine({
    app: shop,
    data,
    report,
    handlers: { charge: () => ({ paid: true }) } as never,
  })
  assert.deepEqual(
    reports.map(({ code }) => code),
    ['effect-without-handler'],
  )
  while ((await engine.get('orders', ['o1']))!.state === 'paying') await settle()
  assert.deepEqual(await engine.get('orders', ['o1']), { state: 'paid 3' })
  assert.deepEqual(
    (await engine.effects.list()).map(({ type }) => type),
    ['note'],
  )
  await engine.close()
})

test('a module of handlers that lacks one, or has one too many, is a type error', () => {
  const fine = { charge: () => ({ paid: true }), note: () => {} }
  handlers<typeof made.shop>(fine)
  handlers<typeof made.shop>({
    ...fine,
    note: { deliver: async ({ input }) => input.text.length, perSecond: 5 },
  })
  // @ts-expect-error: there is no handler for "note".
  handlers<typeof made.shop>({ charge: fine.charge })
  // @ts-expect-error: the app has no effect "fax".
  handlers<typeof made.shop>({ charge: fine.charge, note: fine.note, fax: () => {} })
  // @ts-expect-error: a charge has a result.
  handlers<typeof made.shop>({ charge: () => {}, note: fine.note })
  handlers<typeof made.shop>({
    ...fine,
    // @ts-expect-error: a note has no cents.
    note: ({ input }) => input.cents,
  })
  const both: Handlers<typeof made.shop> = fine
  assert.ok(both)
})

test('what comes of an effect reaches the app whatever its size, and is the same on a replay', async () => {
  const house = await apps.house()
  const data = memoryStorage()
  const alarms: Report[] = []
  const report = (each: Report) => {
    if (each.code === 'derivation-failed') alarms.push(each)
  }
  const engine = await createEngine({
    app: house,
    data,
    report,
    handlers: {
      ask({ key }) {
        if (key === 'many') return new Array(200_000).fill(1)
        if (key === 'long') return 'x'.repeat(600_000)
        // The error is cut in the middle of a character.
        throw new HenceError('no', 'change', `${'x'.repeat(999)}😀`)
      },
    },
  })
  for (const [key, text] of [
    ['many', ''],
    ['long', 'x'.repeat(600_000)],
    ['cut', ''],
  ] as const) {
    await engine.submit('put', { box: key, text }, { requestId: key })
  }
  while ((await engine.effects.list()).length > 0) await settle()
  await engine.idle()
  const rows = await engine.scan('boxes')
  assert.deepEqual(
    rows.map(({ value }) => value.got),
    ['1000 65533', '600000 600000 true', '0 200000 true'],
  )
  assert.deepEqual(alarms, [])
  const dead = await engine.effects.list({ state: 'dead' })
  await engine.close()
  const again = await createEngine({
    app: house,
    data: { ...data, openStore: () => data.openStore(0, [], true) },
    report,
  })
  assert.deepEqual(await again.effects.list({ state: 'dead' }), dead)
  await again.close()
})

for (const partitions of [1, 3]) {
  test(`effects of one key arrive in their order, also after a restart, ${partitions} partitions`, async () => {
    const noting = { order: 'key', triesMax: 2, delayMs: 10 } as const
    let { remark, notes, data, clock, close } = await start({ noting, partitions })
    const textsOf = (calls: readonly Held[]) => calls.map(({ input }) => (input as { text: string }).text)
    const expected = ['remark-0', 'remark-1'].map((name) =>
      Array.from({ length: 4 }, (_, i) => `${name} ${i}`),
    )
    await Promise.all([remark(4), remark(4)])
    await settle()
    assert.deepEqual(textsOf(notes.all).sort(), ['remark-0 0', 'remark-1 0'])
    const byKey = (name: string) => notes.all.filter(({ key }) => key === name)
    byKey('remark-0')[0]!.done()
    await settle()
    assert.deepEqual(textsOf(byKey('remark-0')), ['remark-0 0', 'remark-0 1'])
    // One that fails holds the others of its key up, until it is given up.
    byKey('remark-0')[1]!.fail(new Error('later'))
    await settle()
    assert.equal(byKey('remark-0').length, 2)
    clock.pass(10)
    await settle()
    byKey('remark-0')[2]!.fail(new Error('never'))
    await settle()
    assert.equal(textsOf(byKey('remark-0')).at(-1), 'remark-0 2')
    await close()

    ;({ notes, clock, close } = await start({ data, clock, noting, partitions }))
    await settle()
    for (let done = 0; done < notes.all.length; done++) {
      notes.all[done]!.done()
      await settle()
    }
    assert.deepEqual(textsOf(byKey('remark-0')), expected[0]!.slice(2))
    assert.deepEqual(textsOf(byKey('remark-1')), expected[1])
    await close()
  })
}

test('an order that does not exist is refused', async () => {
  await assert.rejects(start({ noting: { order: 'kye' as 'key' } }), { code: 'option-invalid' })
})
