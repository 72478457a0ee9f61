import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type App, createEngine, type Engine } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { appsOf } from '../../test/apps.ts'
import type * as made from './airline.ts'

const { airline } = appsOf<typeof made>(import.meta.resolve('./airline.ts'))

const by = (principal: string) => ({ principal })
const saver = (booking: string) => ({ booking, flight: 'HE1', fare: 'saver' }) as const
const flex = (booking: string) => ({ booking, flight: 'HE1', fare: 'flex' }) as const
const row = (
  owner: string,
  fare: 'saver' | 'flex',
  state: 'booked' | 'checked-in' | 'denied' | 'no-show',
) => ({
  owner,
  flight: 'HE1',
  fare,
  state,
})

for (const mode of ['strict', 'loose'] as const) {
  const app = await airline(mode, { percent: 50 })
  const opened = (seats: number) => scenario(app).given('open-flight', { flight: 'HE1', seats })

  test(`${mode}: no-shows make room, so nobody is denied boarding`, () => {
    const s = opened(2)
    for (const name of ['ann', 'bob', 'cyd']) s.given('book', saver(name), by(name))
    for (const name of ['bob', 'cyd']) s.given('check-in', { booking: name }, by(name))
    s.when('depart', { flight: 'HE1' })
      .thenAccepted({ boarded: 2, noShows: 1 })
      .thenEffects()
      .thenRow('bookings', ['ann'], row('ann', 'saver', 'no-show'))
      .thenRow('bookings', ['cyd'], row('cyd', 'saver', 'checked-in'))
      .when('check-in', { booking: 'ann' }, by('ann'))
      .thenRejected('not-booked')
      .when('depart', { flight: 'HE1' })
      .thenRejected('flight-not-open')
  })

  test(`${mode}: when everybody shows up, the lower fare is denied boarding, paid and rebooked`, () => {
    const s = opened(2)
    s.given('book', flex('ann'), by('ann')).given('book', saver('bob'), by('bob'))
    s.given('book', flex('cyd'), by('cyd'))
    for (const name of ['ann', 'bob', 'cyd']) s.given('check-in', { booking: name }, by(name))
    s.when('depart', { flight: 'HE1' })
      .thenAccepted({ boarded: 2, noShows: 0 })
      .thenEffects('rebook', 'pay')
      .thenEffect('pay', { booking: 'bob', to: 'bob', euros: 250 })
      .thenRow('bookings', ['bob'], row('bob', 'saver', 'denied'))
      .givenResult('rebook', { flight: 'HE2' })
      .thenRow('bookings', ['bob'], { ...row('bob', 'saver', 'denied'), state: 'rebooked', instead: 'HE2' })
  })

  test(`${mode}: without another flight the passenger is paid`, () => {
    opened(1)
      .given('book', saver('ann'), by('ann'))
      .when('change-aircraft', { flight: 'HE1', seats: 0 })
      .thenEffects('rebook')
      .givenDead('rebook')
      .thenEffect('pay', { booking: 'ann', to: 'ann', euros: 600 })
      .thenRow('bookings', ['ann'], { ...row('ann', 'saver', 'denied'), state: 'paid' })
  })

  test(`${mode}: a smaller plane first denies passengers who have not checked in`, () => {
    const s = opened(2)
    s.given('book', saver('ann'), by('ann')).given('book', flex('bob'), by('bob'))
    s.given('check-in', { booking: 'ann' }, by('ann'))
      .when('change-aircraft', { flight: 'HE1', seats: 1 })
      .thenAccepted()
      .thenRow('bookings', ['bob'], row('bob', 'flex', 'denied'))
      .thenRow('bookings', ['ann'], row('ann', 'saver', 'checked-in'))
      .thenClaimed('seats', 'HE1', 1)
  })

  test(`${mode}: a cancelled seat can be sold again`, () => {
    opened(1)
      .given('book', saver('ann'), by('ann'))
      .when('cancel', { booking: 'ann' }, by('bob'))
      .thenRejected('not-booked')
      .given('cancel', { booking: 'ann' }, by('ann'))
      .when('book', saver('bob'), by('bob'))
      .thenAccepted()
      .thenClaimed('seats', 'HE1', 1)
      .when('book', saver('bob'), by('bob'))
      .thenClaimed('seats', 'HE1', 1)
  })

  test(`${mode}: on 4 partitions, every passenger has a seat or is rebooked or paid`, async () => {
    const alarms: string[] = []
    const engine = await createEngine({
      app: await airline(mode),
      data: memoryStorage({ partitions: 4 }),
      report: ({ message }) => alarms.push(message),
      handlers: { rebook: ({ input }) => ({ flight: `${input.flight}-next` }), pay: () => {} },
    })
    const bookings = Array.from({ length: 60 }, (_, i) => `b${i}`)
    await engine.submit('open-flight', { flight: 'HE1', seats: 40 }, { requestId: 'open' })
    const replies = await Promise.all(
      bookings.map((booking, i) =>
        engine.submit(
          'book',
          { booking, flight: 'HE1', fare: i % 3 ? 'saver' : 'flex' },
          { requestId: booking },
        ),
      ),
    )
    await engine.idle()
    assert.equal((await engine.violations.usage('seats', 'HE1')).claimed, 42, 'the limit of 40 and 5 %')
    assert.equal(replies.filter(({ status }) => status === 'accepted').length, mode === 'strict' ? 42 : 60)
    // The plane leaves while passengers still check in.
    const checkIn = (booking: string) =>
      engine.submit('check-in', { booking }, { requestId: `in-${booking}` })
    await Promise.all(bookings.slice(0, 30).map(checkIn))
    const late = bookings.slice(30, 50).map(checkIn)
    const departed = await engine.submit('depart', { flight: 'HE1' }, { requestId: 'depart' })
    await Promise.all(late)
    await engine.submit('book', { ...saver('after'), fare: 'flex' }, { requestId: 'after' })
    await settled(engine)
    const states = (await engine.scan('bookings')).map(({ value }) => value.state)
    const count = (state: string) => states.filter((each) => each === state).length
    assert.ok(departed.status === 'accepted')
    assert.equal(count('checked-in'), departed.value.boarded)
    assert.ok(departed.value.boarded <= 40)
    assert.equal(count('booked') + count('denied'), 0, 'a passenger is left without an outcome')
    assert.equal(count('rebooked') + count('no-show') + count('checked-in'), states.length)
    assert.equal((await engine.violations.usage('seats', 'HE1')).claimed, departed.value.boarded)
    assert.deepEqual(alarms, [])
    await engine.close()
  })
}

/** Waits until nothing is under way and no effect is pending. */
async function settled(engine: Pick<Engine<App>, 'idle' | 'effects'>): Promise<void> {
  do {
    await engine.idle()
    await new Promise(setImmediate)
  } while ((await engine.effects.list()).length > 0)
}

test('strict: the limit and 5 % can be sold, and no more', async () => {
  const s = scenario(await airline('strict')).given('open-flight', { flight: 'HE1', seats: 20 })
  for (let i = 1; i <= 21; i++) s.given('book', saver(`b${i}`))
  s.when('book', saver('b22')).thenRejected('seats', { key: 'HE1' }).thenRow('bookings', ['b22'], undefined)
})

test('loose: one passenger too many is accepted, and a passenger is rebooked at once', async () => {
  const s = scenario(await airline('loose')).given('open-flight', { flight: 'HE1', seats: 20 })
  for (let i = 1; i <= 21; i++) s.given('book', saver(`b${i}`), by(`p${i}`))
  s.when('book', flex('b22'), by('p22'))
    .thenAccepted()
    .thenEffect('rebook', { booking: 'b21', flight: 'HE1' })
    .thenRow('bookings', ['b22'], row('p22', 'flex', 'booked'))
})
