import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { appsOf } from '../../test/apps.ts'
import type * as made from './hotel.ts'

const { hotel } = appsOf<typeof made>(import.meta.resolve('./hotel.ts'))

const inn = { hotel: 'inn', type: 'double' }
const newYear = ['2026-12-30', '2026-12-31', '2027-01-01'] as const
const by = (principal: string) => ({ principal })
const stayOf = (stay: string, nights = 3) => ({ ...inn, stay, from: newYear[0], nights })
const row = (owner: string, nights: number, state: 'booked' | 'arrived' | 'no-show' | 'walking') => ({
  ...inn,
  owner,
  from: newYear[0],
  nights,
  state,
})

for (const mode of ['strict', 'loose'] as const) {
  const apps = [await hotel(mode, 0), await hotel(mode, 1)] as const
  const opened = (rooms: number, overbook: 0 | 1 = 1) => {
    const s = scenario(apps[overbook])
    for (const night of newYear) s.given('set-rooms', { ...inn, night, rooms })
    return s
  }

  test(`${mode}: a stay claims every night, also across New Year, and releases them all`, () => {
    const s = opened(1, 0).given('book', stayOf('s1'), by('ann'))
    for (const night of newYear) s.thenClaimed('rooms', `inn/double/${night}`, 1)
    s.when('book', stayOf('s1'), by('ann')).thenClaimed('rooms', `inn/double/${newYear[2]}`, 1)
    s.when('cancel', { stay: 's1' }, by('bob')).thenRejected('not-booked')
    s.given('cancel', { stay: 's1' }, by('ann'))
    for (const night of newYear) s.thenClaimed('rooms', `inn/double/${night}`, 0)
  })

  test(`${mode}: a no-show makes room for the guest beyond the limit`, () => {
    opened(1)
      .given('book', stayOf('s1', 2), by('ann'))
      .given('book', stayOf('s2', 2), by('bob'))
      .given('arrive', { stay: 's2' })
      .when('close-night', { ...inn, night: newYear[0] })
      .thenAccepted({ noShows: 1 })
      .thenEffects()
      .thenRow('stays', ['s1'], row('ann', 2, 'no-show'))
      .thenRow('stays', ['s2'], row('bob', 2, 'arrived'))
      .thenClaimed('rooms', `inn/double/${newYear[1]}`, 1)
      .when('close-night', { ...inn, night: newYear[0] })
      .thenRejected('night-not-open')
  })

  test(`${mode}: when both arrive, the last to book is walked, for all nights`, () => {
    opened(1)
      .given('book', stayOf('s1', 2), by('ann'))
      .given('book', stayOf('s2', 2), by('bob'))
      .given('arrive', { stay: 's1' })
      .given('arrive', { stay: 's2' })
      .when('close-night', { ...inn, night: newYear[0] })
      .thenEffect('walk', { guest: 'bob', ...inn, from: newYear[0], nights: 2 })
      .thenRow('stays', ['s2'], row('bob', 2, 'walking'))
      .thenClaimed('rooms', `inn/double/${newYear[1]}`, 1)
      .givenResult('walk', { hotel: 'palace' })
      .thenRow('stays', ['s2'], { ...row('bob', 2, 'booked'), state: 'walked', instead: 'palace' })
  })

  test(`${mode}: a burst pipe walks guests, and they get a refund if no hotel has a room`, () => {
    opened(2, 0)
      .given('book', stayOf('s1'), by('ann'))
      .when('set-rooms', { ...inn, night: newYear[1], rooms: 0 })
      .thenEffects('walk')
      .thenClaimed('rooms', `inn/double/${newYear[0]}`, 0)
      .givenDead('walk')
      .thenEffect('refund', { stay: 's1', guest: 'ann' })
      .thenRow('stays', ['s1'], { ...row('ann', 3, 'booked'), state: 'refunded' })
  })

  test(`${mode}: on 4 partitions, in the sandbox, no night is sold beyond its margin`, async () => {
    const alarms: string[] = []
    const engine = await createEngine<typeof made.default>({
      app: new URL(mode === 'strict' ? 'hotel.ts' : 'loose.ts', import.meta.url),
      data: memoryStorage({ partitions: 4 }),
      report: ({ message }) => alarms.push(message),
    })
    const all = Array.from({ length: 10 }, (_, i) => `2026-05-${10 + i}`)
    for (const night of all) {
      await engine.submit('set-rooms', { ...inn, night, rooms: 4 }, { requestId: night })
    }
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        engine.submit(
          'book',
          { ...inn, stay: `s${i}`, from: all[i % 7]!, nights: 1 + (i % 4) },
          { requestId: `r${i}` },
        ),
      ),
    )
    await engine.idle()
    const booked = (await engine.scan('stays')).filter(({ value }) => value.state === 'booked')
    for (const [i, night] of all.entries()) {
      const held = booked.filter(({ value }) => {
        const first = all.indexOf(value.from)
        return first <= i && i < first + value.nights
      }).length
      const { claimed } = await engine.violations.usage('rooms', `inn/double/${night}`)
      assert.equal(claimed, held)
      assert.ok(held <= 5)
    }
    const accepted = replies.filter(({ status }) => status === 'accepted').length
    assert.equal(accepted, mode === 'strict' ? booked.length : 40)
    assert.equal((await engine.effects.list()).length, mode === 'strict' ? 0 : 40 - booked.length)
    assert.deepEqual(alarms, [])
    await engine.close()
  })
}

test('strict: one full night rejects the stay, and no other night is claimed', async () => {
  scenario(await hotel('strict', 0))
    .given('set-rooms', { ...inn, night: newYear[0], rooms: 1 })
    .given('set-rooms', { ...inn, night: newYear[2], rooms: 1 })
    .when('book', stayOf('s1'), by('ann'))
    .thenRejected('rooms', { key: `inn/double/${newYear[1]}` })
    .thenClaimed('rooms', `inn/double/${newYear[0]}`, 0)
    .thenRow('stays', ['s1'], undefined)
})

test('loose: one full night walks the guest for all nights', async () => {
  scenario(await hotel('loose', 0))
    .given('set-rooms', { ...inn, night: newYear[0], rooms: 1 })
    .given('set-rooms', { ...inn, night: newYear[2], rooms: 1 })
    .when('book', stayOf('s1'), by('ann'))
    .thenAccepted()
    .thenEffects('walk')
    .thenClaimed('rooms', `inn/double/${newYear[0]}`, 0)
})
