import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp } from 'hence'
import { scenario, simulate } from 'hence/testing'
import type bookings from './bookings.ts'

const app = await bundleApp<typeof bookings>(import.meta.resolve('./bookings.ts'))

const night = '2027-06-01'
const book = (booking: string) => ['book', { booking, night, guest: booking }] as const

test('one booking too many waits for a decision, and gives way after a day', () => {
  const hotel = scenario(app)
    .given('open-night', { night, rooms: 1 })
    .given(...book('ada'))
    .when(...book('bob'))
    .thenAccepted({ cents: 9_000 })
    .thenEffects()
  assert.equal(hotel.violations()[0]?.excess, 1)
  hotel
    .whenTimePasses(24 * 60 * 60_000)
    .thenEffect('apology', { to: 'bob', night })
    .thenRow('bookings', ['bob'], { night, guest: 'bob', cents: 9_000, state: 'sorry' })
    .thenClaimed('rooms', night, 1)
})

test('a cancelled booking makes room', () => {
  scenario(app)
    .given('open-night', { night, rooms: 1 })
    .given(...book('ada'))
    .given('cancel', { booking: 'ada' })
    .when(...book('bob'))
    .thenAccepted()
    .thenClaimed('rooms', night, 1)
    .when('cancel', { booking: 'ada' })
    .thenRejected('not-booked')
})

// The whole pipeline, with crashes, lost messages and full disks, from a seed.
test('a guest who gave way gets one apology, whatever fails', async () => {
  await simulate(app, {
    runs: 3,
    clients: (draw) =>
      draw.chance(0.1)
        ? ['open-night', { night, rooms: 1 + draw.below(3) }]
        : ['book', { booking: `b${draw.below(30)}`, night, guest: 'ada' }],
    receivers: { apology: () => {} },
    invariant({ rows, deliveries }) {
      const sorry = rows('bookings').filter(({ value }) => value.state === 'sorry')
      assert.ok(deliveries.length <= sorry.length)
    },
  })
})
