import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/tickets.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { randomFrom } from '../../test/random.ts'
import { CrashingStorage } from '../../test/simulation/crashing-storage.ts'
import { systemClock } from '../clock.ts'
import { createEngine } from '../engine/open-engine.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { scenario } from '../testing/scenario.ts'

const { tickets } = appsOf<typeof made>(import.meta.resolve('../../test/apps/tickets.ts'))

// Claims that grow and shrink. The worst fault would be a request that loses what it holds because it asked
// for something else.

for (const mode of ['strict', 'loose'] as const) {
  test(`${mode}: three seats become two, and the third can be claimed`, async () => {
    scenario(await tickets({ mode, limit: 3 }))
      .given('hold', { booking: 'a', seats: 3 })
      .when('give-back', { booking: 'a', units: 1 })
      .thenAccepted({ count: 1 })
      .thenClaimed('seats', 's', 2)
      .given('hold', { booking: 'b', seats: 1 })
      .thenEffects()
      .when('give-back', { booking: 'a', units: 5 })
      .thenAccepted({ count: 1 })
      .thenClaimed('seats', 's', 1)
      .when('give-back', { booking: 'a', units: 1 })
      .thenAccepted({ count: 0 })
      .when('give-back', { booking: 'a', units: 0 })
      .thenFailed('claim-invalid')
  })

  test(`${mode}: three seats become four when one is free, in one step`, async () => {
    scenario(await tickets({ mode, limit: 4 }))
      .given('hold', { booking: 'a', seats: 3 })
      .when('pay', { booking: 'a', seats: 4 })
      .thenAccepted()
      .thenClaimed('seats', 's', 4)
      .thenRow('bookings', ['a'], { seats: 4, state: 'paid' })
      .when('pay', { booking: 'a', seats: 2 })
      .thenAccepted()
      .thenClaimed('seats', 's', 2)
      .when('give-back', { booking: 'a', units: 9 })
      .thenAccepted({ count: 1 })
      .thenClaimed('seats', 's', 0)
  })

  test(`${mode}: a full house can be paid for, and what is paid for gives way as a whole`, async () => {
    const s = scenario(await tickets({ mode, limit: 3 }))
      .given('hold', { booking: 'a', seats: 3 })
      .when('pay', { booking: 'a', seats: 3 })
      .thenAccepted()
      .thenClaimed('seats', 's', 3)
      .when('set-seats', { seats: 2 })
      .thenRow('bookings', ['a'], { seats: 0, state: 'sorry' })
      .thenEffects('sorry')
      .thenClaimed('seats', 's', 0)
    assert.deepEqual(
      s.violations().map(({ victims }) => victims.map(({ units, state }) => [units, state])),
      [[[3, 'compensated']]],
    )
  })

  test(`${mode}: a claim is as old as those it replaces, and confirmed if one of them is`, async () => {
    scenario(await tickets({ mode, limit: 9 }))
      .given('hold', { booking: 'a', seats: 2 })
      .given('hold', { booking: 'b', seats: 1 })
      .given('pay', { booking: 'a', seats: 1 })
      .when('set-seats', { seats: 1 })
      .thenRow('bookings', ['b'], { seats: 0, state: 'sorry' })
      .given('set-seats', { seats: 9 })
      .given('enter', { booking: 'a' })
      .given('pay', { booking: 'a', seats: 2 })
      .given('hold', { booking: 'b', seats: 1 })
      .when('begin', {})
      .thenAccepted({ gone: 1 })
      .thenClaimed('seats', 's', 2)
  })
}

test('units come from the latest request first, also of those in one millisecond', async () => {
  const at = 1_800_000_000_000
  scenario(await tickets({ limit: 9 }))
    .given('hold', { booking: 'a', seats: 2 }, { requestId: 'z', at })
    .given('hold', { booking: 'a', seats: 3 }, { requestId: 'b', at })
    .given('hold', { booking: 'a', seats: 1 }, { requestId: 'm', at })
    .when('give-back', { booking: 'a', units: 3 }, { at })
    .thenAccepted({ count: 2 })
})

test('units come from the latest request first, also if new code moved earlier ones', async () => {
  const [before, after] = [await tickets({ limit: 9 }), await tickets({ limit: 9 }, 'new ')]
  assert.notEqual(partitionOf('a', 8), partitionOf('new a', 8))
  const engine = await createEngine({ app: before, data: memoryStorage({ partitions: 8 }), report: () => {} })
  let count = 0
  const id = () => ({ requestId: `r${count++}` })
  // The offset of the first claim in its partition is higher than that of the second in another one.
  for (let i = 0; i < 20; i++) await engine.submit('enter', { booking: 'a' }, id())
  await engine.submit('hold', { booking: 'a', seats: 2 }, id())
  await engine.reprocessing.start({ app: after })
  await engine.reprocessing.caughtUp()
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, id())
  await engine.submit('hold', { booking: 'a', seats: 1 }, id())
  // All of the second, and one more.
  const given = await engine.submit('give-back', { booking: 'a', units: 2 }, id())
  assert.deepEqual(given.status === 'accepted' && given.value, { count: 2 })
  await engine.close()
})

test('strict: an exchange that is refused leaves what is held', async () => {
  scenario(await tickets({ limit: 4 }))
    .given('hold', { booking: 'a', seats: 3 })
    .given('hold', { booking: 'b', seats: 1 })
    .given('pay', { booking: 'b', seats: 1, number: 'n1' })
    .when('pay', { booking: 'a', seats: 4 })
    .thenRejected('seats', { key: 's' })
    .when('pay', { booking: 'a', seats: 2, isRejected: true })
    .thenRejected('not-paid')
    .when('pay', { booking: 'a', seats: 2, number: 'n1' })
    .thenRejected('number', { key: 'n1' })
    .thenRow('bookings', ['a'], { seats: 3, state: 'held' })
    .thenClaimed('seats', 's', 4)
    .given('give-back', { booking: 'b', units: 1 })
    .when('pay', { booking: 'a', seats: 4, number: 'n1' })
    .thenRejected('number')
    .thenClaimed('seats', 's', 3)
})

test('loose: an exchange beyond the limit is accepted, and is a violation', async () => {
  scenario(await tickets({ mode: 'loose', limit: 4, victims: 'oldest' }))
    .given('hold', { booking: 'b', seats: 2 })
    .given('hold', { booking: 'a', seats: 2 })
    .when('pay', { booking: 'a', seats: 3 })
    .thenAccepted()
    .thenRow('bookings', ['b'], { seats: 0, state: 'sorry' })
    .thenClaimed('seats', 's', 3)
})

/** Its request has released what it replaces before it is decided: for a moment the key has no units claimed. */
const releasedAndPaid = async () =>
  scenario(await tickets({ limit: 3 }))
    .given('hold', { booking: 'a', seats: 1 })
    .given('pay', { booking: 'a', seats: 1, releases: true })
    .thenClaimed('seats', 's', 1)

test('a claim whose request released what it replaces keeps its place in the order', async () => {
  const s = await releasedAndPaid()
  s.given('hold', { booking: 'b', seats: 2 })
    .given('set-seats', { seats: 2 })
    .thenRow('bookings', ['a'], { seats: 1, state: 'paid' })
    .thenRow('bookings', ['b'], { seats: 0, state: 'sorry' })
})

test('settle releases a claim whose request released what it replaces', async () => {
  const s = await releasedAndPaid()
  s.when('begin', {})
    .thenAccepted({ gone: 1 })
    .thenClaimed('seats', 's', 0)
    .when('give-back', { booking: 'a', units: 1 })
    .thenAccepted({ count: 0 })
})

test('a claim replaces those of 100 requests at most', async () => {
  const s = scenario(await tickets({ limit: 500 }))
  for (let i = 0; i < 101; i++) s.given('hold', { booking: 'a', seats: 1 })
  s.when('pay', { booking: 'a', seats: 1 }).thenFailed('claim-invalid')
  s.given('give-back', { booking: 'a', units: 1 })
  s.when('pay', { booking: 'a', seats: 1 }).thenAccepted().thenClaimed('seats', 's', 1)
})

for (const victims of ['newest', 'oldest'] as const) {
  test(`between the verdict and the decision a limit may fall (${victims})`, async () => {
    const random = randomFrom(7)
    const states = new Set<string>()
    for (let world = 0; world < 100; world++) {
      const engine = await createEngine({
        app: await tickets({ limit: 3, victims }),
        data: new CrashingStorage({ partitions: 8, clock: systemClock, id: '0'.repeat(32), random }).open(),
        report: ({ level, message }) => assert.notEqual(level, 'alarm', message),
      })
      let count = 0
      const options = () => ({ requestId: `r${count++}` })
      await engine.submit('hold', { booking: 'b', seats: 2 }, options())
      const paid = engine.submit('pay', { booking: 'b', seats: 3 }, options())
      for (let i = 0; i < 8; i++) {
        if (random() < 0.5) await new Promise(setImmediate)
        void engine.submit('set-seats', { seats: random() < 0.3 ? 2 : 3 }, options())
      }
      const { status } = await paid
      await engine.idle()
      const { seats, state } = (await engine.get('bookings', ['b']))!
      states.add(`${status} ${state}`)
      const { claimed } = await engine.violations.usage('seats', 's')
      assert.equal(claimed, seats, `${status} and ${state}, with ${seats} seats`)
      const violations = await engine.violations.list()
      assert.ok(violations.every(({ state }) => state === 'resolved'))
      await engine.submit('give-back', { booking: 'b', units: 9 }, options())
      await engine.idle()
      assert.equal((await engine.violations.usage('seats', 's')).claimed, 0, 'a claim that nobody holds')
      await engine.close()
    }
    assert.deepEqual([...states].sort(), ['accepted paid', 'accepted sorry', 'rejected held'])
  })
}

/** An engine of 8 partitions, in which the messages to one key can be held up. */
async function stoppable(options: Parameters<typeof tickets>[0]) {
  const clock = new HandClock()
  const data = memoryStorage({ partitions: 8, clock })
  let gate = { key: '', opened: Promise.resolve(), open() {} }
  const append = data.log.append.bind(data.log)
  Object.assign(data.log, {
    async append(...[partition, records]: Parameters<typeof append>) {
      if (partition === partitionOf(gate.key, 8)) await gate.opened
      return append(partition, records)
    },
  })
  const engine = await createEngine({
    app: await tickets(options),
    data,
    clock,
    report: ({ level, message }) => assert.notEqual(level, 'alarm', message),
  })
  let count = 0
  return {
    engine,
    clock,
    send: (name: string, input: object) =>
      engine.submit(name as 'hold', input as never, { requestId: `r${count++}` }),
    /** Messages to a key wait until `open` is called. */
    stop(key: string) {
      const { promise: opened, resolve: open } = Promise.withResolvers<void>()
      gate = { key, opened, open }
    },
    open: () => gate.open(),
    state: async (booking: string) => (await engine.get('bookings', [booking]))?.state,
    claimed: async () => (await engine.violations.usage('seats', 's')).claimed,
  }
}

for (const victims of ['newest', 'oldest'] as const) {
  test(`between the verdict and the decision the time to confirm may pass: nobody else gives way (${victims})`, async () => {
    const { engine, clock, send, stop, open, state, claimed } = await stoppable({
      limit: 3,
      victims,
      waitingList: { confirmMs: 1_000 },
    })
    await send('hold', { booking: 'a', seats: 3 })
    await send('hold', { booking: 'b', seats: 2, wait: true })
    await send('give-back', { booking: 'a', units: 2 })
    await engine.idle()
    assert.equal(await state('b'), 'held')
    await engine.enqueue('pay', { booking: 'b', seats: 2 }, { requestId: 'pay' })
    stop('b')
    await settle()
    clock.pass(1_000)
    await settle()
    assert.equal(await claimed(), 1)
    const other = await send('hold', { booking: 'c', seats: 2 })
    assert.equal(other.status, 'accepted')
    open()
    await engine.idle()
    assert.equal(await state('c'), 'held', 'its claim was granted, and the limit has not fallen')
    assert.deepEqual(await Promise.all(['a', 'b'].map(state)), ['held', 'sorry'])
    assert.equal(await claimed(), 3)
    assert.deepEqual(await engine.violations.list(), [])
    await engine.close()
  })
}
