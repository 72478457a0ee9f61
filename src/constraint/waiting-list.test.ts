import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/tickets.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import type * as model from '../../test/model/app.ts'
import { createEngine } from '../engine/open-engine.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { scenario } from '../testing/scenario.ts'

const { tickets } = appsOf<typeof made>(import.meta.resolve('../../test/apps/tickets.ts'))

// The worst faults of a waiting list: somebody overtakes, waits for ever, or is served twice.

const minute = 60_000
const one = (booking: string) => ({ booking, seats: 1, wait: true })
const held = { seats: 1, state: 'held' } as const
const waiting = { seats: 1, state: 'waiting' } as const

for (const mode of ['strict', 'loose'] as const) {
  test(`${mode}: who waits is served in order, once`, async () => {
    scenario(await tickets({ mode, limit: 1, waitingList: {} }))
      .given('hold', one('a'))
      .thenEffects()
      .when('hold', one('b'))
      .thenAccepted({ waits: mode === 'strict' })
      .thenEffect('delayed', { booking: 'b', isVictim: false })
      .thenRow('bookings', ['b'], waiting)
      .given('hold', one('c'))
      .thenClaimed('seats', 's', 1)
      .when('set-seats', { seats: 1 })
      .thenAccepted({ limit: 1, claimed: 1, excess: 0, waiting: 2 })
      .given('give-back', { booking: 'a', units: 1 })
      .thenEffect('seated', { booking: 'b', confirmBy: null })
      .thenRow('bookings', ['b'], held)
      .thenRow('bookings', ['c'], waiting)
      .when('set-seats', { seats: 3 })
      .thenEffect('seated', { booking: 'c', confirmBy: null })
      .thenClaimed('seats', 's', 2)
      .given('hold', one('d'))
      .thenRow('bookings', ['d'], held)
  })

  test(`${mode}: who leaves the line is not served, and one that is too large holds it up`, async () => {
    const s = scenario(await tickets({ mode, limit: 2, waitingList: {} }))
      .given('hold', { booking: 'a', seats: 2 })
      .given('hold', { booking: 'b', seats: 2, wait: true })
      .given('hold', one('c'))
      .given('hold', one('d'))
      .given('give-back', { booking: 'a', units: 1 })
      .thenEffects()
    // A claim overtakes nobody, though a seat is free.
    if (mode === 'strict') s.when('hold', { booking: 'e', seats: 1 }).thenRejected('seats', { key: 's' })
    s.given('give-back', { booking: 'c', units: 1 })
      .thenEffects()
      .given('give-back', { booking: 'b', units: 1 })
      .thenEffect('seated', { booking: 'b', confirmBy: null })
      .thenRow('bookings', ['c'], waiting)
      .given('give-back', { booking: 'b', units: 1 })
      .thenEffect('seated', { booking: 'd', confirmBy: null })
      .when('set-seats', { seats: 2 })
      .thenAccepted({ limit: 2, claimed: 2, excess: 0, waiting: 0 })
  })

  test(`${mode}: who does not confirm in time loses the place to the next`, async () => {
    scenario(await tickets({ mode, limit: 1, waitingList: { confirmMs: minute } }))
      .given('hold', one('a'))
      .given('hold', one('b'))
      .given('hold', one('c'))
      .when('enter', { booking: 'b' })
      .thenAccepted({ confirmed: 0 })
      .given('give-back', { booking: 'a', units: 1 }, { at: 1_800_000_000_000 })
      .thenEffect('seated', { booking: 'b', confirmBy: 1_800_000_000_000 + minute })
      .whenTimePasses(minute - 1)
      .thenEffects()
      .whenTimePasses(1)
      .thenRow('bookings', ['b'], { seats: 0, state: 'sorry' })
      .thenEffect('seated', { booking: 'c', confirmBy: 1_800_000_000_000 + 2 * minute })
      .given('enter', { booking: 'c' })
      .whenTimePasses(2 * minute)
      .thenEffects()
      .thenRow('bookings', ['c'], held)
      .thenClaimed('seats', 's', 1)
  })

  test(`${mode}: victims wait before those who asked after them`, async () => {
    const s = scenario(await tickets({ mode, limit: 3, waitingList: { victims: true } }))
    for (const booking of ['a', 'b', 'c', 'd']) s.given('hold', one(booking))
    s.when('set-seats', { seats: 1 })
      .thenEffects('delayed', 'delayed')
      .thenRow('bookings', ['b'], waiting)
      .thenRow('bookings', ['c'], waiting)
      .thenClaimed('seats', 's', 1)
    const [violation] = s.violations()
    assert.equal(violation!.state, 'resolved')
    assert.deepEqual(
      violation!.victims.map(({ key, state }) => `${key} ${state}`),
      ['c queued', 'b queued'],
    )
    for (const [seats, booking] of [
      [2, 'b'],
      [3, 'c'],
      [4, 'd'],
    ] as const) {
      s.when('set-seats', { seats }).thenEffect('seated', { booking, confirmBy: null })
    }
    s.thenClaimed('seats', 's', 4)
  })

  test(`${mode}: a full list refuses, or has victims`, async () => {
    const s = scenario(await tickets({ mode, limit: 1, waitingList: { victims: true, maxBytes: 300 } }))
      .given('hold', one('a'))
      .given('hold', one('b'))
      .when('hold', one('c'))
    if (mode === 'strict') s.thenRejected('seats', { key: 's', waitingList: 'full' })
    else s.thenRow('bookings', ['c'], { seats: 0, state: 'sorry' })
    s.when('set-seats', { seats: 0 })
      .thenRow('bookings', ['a'], { seats: 0, state: 'sorry' })
      .thenRow('bookings', ['b'], waiting)
  })
}

test('strict: who waits and is refused leaves the line', async () => {
  scenario(await tickets({ limit: 1, waitingList: {} }))
    .given('hold', { ...one('a'), number: 'n' })
    .when('hold', { ...one('b'), isRejected: true })
    .thenRejected('not-held')
    .when('hold', { ...one('c'), number: 'n' })
    .thenRejected('number')
    .when('set-seats', { seats: 5 })
    .thenAccepted({ limit: 5, claimed: 1, excess: 0, waiting: 0 })
    .thenEffects()
})

test('no-shows make room for those who wait', async () => {
  scenario(await tickets({ limit: 2, waitingList: {} }))
    .given('hold', one('a'))
    .given('hold', one('b'))
    .given('hold', one('c'))
    .given('enter', { booking: 'b' })
    .when('begin', {})
    .thenEffect('seated', { booking: 'c', confirmBy: null })
    .thenClaimed('seats', 's', 2)
})

test('a claim that waits can be exchanged, and one that exchanges grows past nobody', async () => {
  scenario(await tickets({ limit: 3, waitingList: {} }))
    .given('hold', { booking: 'a', seats: 2 })
    .given('hold', { booking: 'b', seats: 2, wait: true })
    .when('pay', { booking: 'a', seats: 3 })
    .thenRejected('seats')
    .when('set-seats', { seats: 3 })
    .thenAccepted({ limit: 3, claimed: 2, excess: 0, waiting: 1 })
    .given('give-back', { booking: 'b', units: 2 })
    .given('hold', { booking: 'b', seats: 2, wait: true })
    .given('pay', { booking: 'a', seats: 1 })
    .thenEffect('seated', { booking: 'b', confirmBy: null })
    .thenClaimed('seats', 's', 3)
})

for (const mode of ['strict', 'loose'] as const) {
  test(`${mode}: the first in line takes less by an exchange, with its age and before nobody`, async () => {
    const s = scenario(await tickets({ mode, limit: 5, waitingList: { victims: true } }))
      .given('hold', { booking: 'a', seats: 5 })
      .given('hold', one('b'))
      .when('set-seats', { seats: 3 })
      .thenRow('bookings', ['a'], { seats: 5, state: 'waiting' })
    if (mode === 'strict') s.when('pay', { booking: 'b', seats: 1 }).thenRejected('seats')
    if (mode === 'strict') s.when('pay', { booking: 'a', seats: 4 }).thenRejected('seats')
    s.when('pay', { booking: 'a', seats: 2 })
      .thenAccepted()
      .thenEffect('seated', { booking: 'b', confirmBy: null })
      .thenClaimed('seats', 's', 3)
      // The victim is the newest claim, and `a` is as old as its place in line.
      .when('set-seats', { seats: 2 })
      .thenRow('bookings', ['b'], waiting)
      .thenClaimed('seats', 's', 2)
  })
}

test('a claim waits only where a list is declared, and not in exchange', async () => {
  scenario(await tickets({ limit: 1 }))
    .when('hold', one('a'))
    .thenFailed('claim-invalid')
})

for (const partitions of [1, 8]) {
  test(`on ${partitions} partitions who is served while no-shows are released is counted once`, async () => {
    const engine = await createEngine({
      app: await tickets({ limit: 250, waitingList: {} }),
      data: memoryStorage({ partitions }),
      report: ({ level, message }) => assert.notEqual(level, 'alarm', message),
      handlers: { delayed: () => {}, seated: () => {}, sorry: () => {} },
    })
    const settled = async () => {
      // Claims are released in steps, each of which is a record of its own.
      for (let before = ''; before !== (await engine.digest()); before = await engine.digest()) {
        await engine.idle()
        await new Promise(setImmediate)
      }
      return (await engine.violations.usage('seats', 's')).claimed
    }
    let count = 0
    const id = () => ({ requestId: `r${1000 + count++}` })
    await Promise.all(
      Array.from({ length: 250 }, (_, i) => engine.submit('hold', { booking: `b${i}`, seats: 1 }, id())),
    )
    for (let i = 0; i < 5; i++) await engine.submit('hold', { booking: `w${i}`, seats: 1, wait: true }, id())
    await engine.idle()
    // Twice, as by a double click: the second time finds those who were served meanwhile.
    const begun = await Promise.all([engine.submit('begin', {}, id()), engine.submit('begin', {}, id())])
    assert.equal(await settled(), 0, 'a seat that nobody holds')
    assert.deepEqual(
      begun.map((each) => each.status === 'accepted' && each.value),
      [{ gone: 250 }, { gone: 5 }],
    )

    await Promise.all(
      Array.from({ length: 250 }, (_, i) => engine.submit('hold', { booking: `b${i}`, seats: 1 }, id())),
    )
    for (let i = 0; i < 5; i++) await engine.submit('hold', { booking: `w${i}`, seats: 1, wait: true }, id())
    await engine.idle()
    await Promise.all([
      engine.submit('begin', {}, id()),
      engine.submit('pay', { booking: 'w0', seats: 1 }, id()),
    ])
    assert.equal(await settled(), 5)
    for (let i = 0; i < 5; i++) await engine.submit('give-back', { booking: `w${i}`, units: 1 }, id())
    assert.equal(await settled(), 0, 'a seat that nobody holds')
    await engine.close()
  })

  test(`on ${partitions} partitions 300 wait, and operators see them in line`, async () => {
    const engine = await createEngine({
      app: await tickets({ limit: 0, waitingList: {} }),
      data: memoryStorage({ partitions }),
      report: ({ level, message }) => assert.notEqual(level, 'alarm', message),
      handlers: { delayed: () => {}, seated: () => {}, sorry: () => {} },
    })
    for (let i = 0; i < 300; i++) await engine.submit('hold', one(`b${i}`), { requestId: `r${i}` })
    await engine.idle()
    assert.deepEqual(await engine.violations.usage('seats', 's'), {
      limit: 0,
      claimed: 0,
      excess: 0,
      waiting: 300,
    })
    const query = { index: 'line', prefix: ['seats'] } as never
    const line = (await engine.scan('hence.waiters' as never, query)) as readonly {
      value: { holder: string }
    }[]
    assert.deepEqual(
      line.map(({ value }) => value.holder),
      Array.from({ length: 300 }, (_, i) => `b${i}`),
    )
    await engine.submit('set-seats', { seats: 299 }, { requestId: 'more' })
    for (;;) {
      await engine.idle()
      if ((await engine.violations.usage('seats', 's')).waiting === 1) break
      await new Promise(setImmediate)
    }
    const rows = await engine.scan('bookings')
    assert.deepEqual(
      rows.filter(({ value }) => value.state === 'waiting').map(({ key }) => key[0]),
      ['b299'],
    )
    await engine.close()
  })
}

test('a line in which nobody confirms is no endless chain, however long it is', async () => {
  const { modelled } = appsOf<typeof model>(import.meta.resolve('../../test/model/app.ts'))
  const seat = { s: 0, kind: 'unique', mode: 'loose', limit: 1, overbook: 0, victims: 'newest' } as const
  const constraint = { ...seat, review: 'auto', deadlineMs: 1, waitingList: { confirmMs: 1 } } as const
  const app = (await modelled({ constraints: [constraint], twist: {}, corrects: false })) as AppBundle
  const clock = new HandClock()
  const engine = await createEngine({ app, data: memoryStorage({ clock }), clock, report: () => {} })
  const claims = [{ c: 0, at: 'x', units: 1, priority: 0, wait: true }]
  const served = [{ do: 'emit', to: { s: 0, k: 'z' }, tag: 0, ops: [{ do: 'add', by: 1 }] }]
  const run = (requestId: string, input: object) =>
    engine.submit('run-a', { k: requestId, claims, ops: [], sorry: [], served, ...input }, { requestId })
  await Promise.all(Array.from({ length: 1_010 }, (_, i) => run(`y${i}`, {})))
  await run('free', { k: 'y0', claims: [], ops: [{ do: 'release', c: 0 }] })
  clock.pass(2_000)
  await engine.idle()
  assert.deepEqual(await engine.get('counts-a', ['z'] as never), { n: 1_009 })
  await engine.close()
})

test('a request learns that it waits before it learns that it is served', async () => {
  const { modelled } = appsOf<typeof model>(import.meta.resolve('../../test/model/app.ts'))
  const common = { s: 0, kind: 'capacity', overbook: 0, victims: 'newest', review: 'auto', deadlineMs: 1 }
  const own = { ...common, mode: 'loose', limit: 0, waitingList: {} }
  const far = { ...common, mode: 'strict', limit: 1 }
  const plan = { constraints: [own, far], twist: {}, corrects: false }
  const app = (await modelled(plan as never)) as AppBundle
  const clock = new HandClock()
  const data = memoryStorage({ partitions: 2, clock })
  const engine = await createEngine({ app, data, clock, report: () => {} })
  const run = (requestId: string, claims: object[], ops: object[]) =>
    engine.submit('run-a', { k: 'x', claims, ops, sorry: [] }, { requestId })
  // The second request is parked while the first one asks the other partition.
  const claims = [
    { c: 0, at: 'x', units: 1, wait: true },
    { c: 1, at: 'far', units: 1 },
  ]
  await Promise.all([run('books', claims, []), run('frees', [], [{ do: 'limit', c: 0, to: 1 }])])
  await run('asks', [], [{ do: 'waits', c: 0 }])
  assert.deepEqual(await engine.get('journal-a', ['x'] as never), {
    lines: ['queued c0 x asked', 'served c0 x null', 'waits 0 false'],
  })
  await engine.close()
})

test('units are given back of what is held, and only then of what waits', async () => {
  scenario(await tickets({ limit: 2, waitingList: {} }))
    .given('hold', { booking: 'a', seats: 2 })
    .given('hold', { booking: 'a', seats: 3, wait: true })
    .when('give-back', { booking: 'a', units: 1 })
    .thenAccepted({ count: 1 })
    .thenClaimed('seats', 's', 1)
    .when('give-back', { booking: 'a', units: 2 })
    .thenAccepted({ count: 2 })
    // Of the three that wait one was given back, and two are free now.
    .thenClaimed('seats', 's', 2)
    .when('give-back', { booking: 'a', units: 9 })
    .thenAccepted({ count: 1 })
    .thenClaimed('seats', 's', 0)
})

test('who is served again under code without a time to confirm keeps the place', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const report = () => {}
  let app = await tickets({ limit: 1, waitingList: { victims: true, confirmMs: minute } })
  let engine = await createEngine({ app, data, clock, report })
  let count = 0
  const options = () => ({ requestId: `r${count++}` })
  const stateOfB = async () => (await engine.get('bookings', ['b']))!.state
  await engine.submit('hold', { booking: 'a', seats: 1 }, options())
  await engine.submit('hold', one('b'), options())
  await engine.submit('give-back', { booking: 'a', units: 1 }, options())
  await engine.close()
  app = await tickets({ limit: 1, waitingList: { victims: true } })
  engine = await createEngine({ app, data, clock, onCodeChange: 'continue', report })
  await engine.submit('set-seats', { seats: 0 }, options())
  assert.equal(await stateOfB(), 'waiting')
  await engine.submit('set-seats', { seats: 1 }, options())
  clock.pass(minute)
  await engine.submit('set-seats', { seats: 1 }, options())
  await engine.idle()
  assert.equal(await stateOfB(), 'held')
  await engine.close()
})

test('code that declares no list any more serves and shows those who wait', async () => {
  const data = memoryStorage()
  let engine = await createEngine({
    app: await tickets({ limit: 1, waitingList: {} }),
    data,
    report: () => {},
  })
  let count = 0
  const options = () => ({ requestId: `r${count++}` })
  await engine.submit('hold', { booking: 'a', seats: 1 }, options())
  await engine.submit('hold', { booking: 'b', seats: 1, wait: true }, options())
  await engine.close()
  const app = await tickets({ limit: 1 })
  engine = await createEngine({ app, data, onCodeChange: 'continue', report: () => {} })
  const usage = () => engine.violations.usage('seats', 's')
  assert.deepEqual(await usage(), { limit: 1, claimed: 1, excess: 0, waiting: 1 })
  await engine.submit('give-back', { booking: 'a', units: 1 }, options())
  assert.equal((await engine.get('bookings', ['b']))!.state, 'held')
  assert.deepEqual(await usage(), { limit: 1, claimed: 1, excess: 0 })
  await engine.close()
})
