import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp, type Clock, createEngine } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { holdMs, type Seats } from './seats.ts'

const seats = await bundleApp<Seats>(import.meta.resolve('./seats.ts'))

const ann = { principal: 'ann' }
const bob = { principal: 'bob' }
const noon = Date.UTC(2026, 0, 1, 12)
const seat = { flight: 'HE101', row: 12, letter: 'A' }
const opened = () => scenario(seats).given('open-flight', { flight: 'HE101', rows: 20, letters: 'ABCDEF' })

test('a held seat can only be booked by the passenger who holds it', () => {
  opened()
    .when('hold-seat', seat, { ...ann, at: noon })
    .thenAccepted({ until: noon + holdMs })
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'held', until: noon + holdMs })
    .when('hold-seat', seat, bob)
    .thenRejected('seat-taken')
    .when('book-seat', seat, bob)
    .thenRejected('seat-not-yours')
    .when('book-seat', seat, ann)
    .thenAccepted()
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'booked' })
    .thenRow('passengers', ['HE101', 12, 'A'], { passenger: 'ann' })
    .when('book-seat', seat, ann)
    .thenRejected('already-booked')
})

test('a hold ends after 15 minutes, a booking does not', () => {
  opened()
    .given('hold-seat', seat, { ...ann, at: noon })
    .given('hold-seat', { ...seat, row: 13 }, { ...bob, at: noon })
    .given('book-seat', { ...seat, row: 13 }, bob)
    .whenTime(noon + holdMs - 1)
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'held', until: noon + holdMs })
    .whenTime(noon + holdMs)
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'free' })
    .thenRow('passengers', ['HE101', 12, 'A'], undefined)
    .thenRow('seats', ['HE101', 13, 'A'], { state: 'booked' })
    .when('book-seat', seat, ann)
    .thenRejected('seat-not-yours')
})

test('the timer of a released hold does not end a later hold', () => {
  opened()
    .given('hold-seat', seat, { ...ann, at: noon })
    .given('release-seat', seat, { ...ann, at: noon + 60_000 })
    .given('hold-seat', seat, { ...bob, at: noon + 120_000 })
    .whenTime(noon + holdMs)
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'held', until: noon + 120_000 + holdMs })
    .whenTime(noon + 120_000 + holdMs)
    .thenRow('seats', ['HE101', 12, 'A'], { state: 'free' })
})

test('a flight is opened once, and its seats cannot change', () => {
  opened()
    .when('open-flight', { flight: 'HE101', rows: 9, letters: 'AB' })
    .thenRejected('flight-exists')
    .when('hold-seat', { ...seat, row: 21 }, ann)
    .thenRejected('no-such-seat')
    .when('release-seat', seat, ann)
    .thenRejected('seat-not-yours')
})

test('on 4 partitions 60 passengers compete for 12 seats: each seat goes to one, and holds end by themselves', async () => {
  let now = noon
  const alarms: string[] = []
  const ring = new Set<() => void>()
  const clock: Clock = {
    now: () => now,
    alarm(_, call) {
      ring.add(call)
      return () => ring.delete(call)
    },
  }
  const engine = await createEngine({
    app: seats,
    data: memoryStorage({ partitions: 4, clock }),
    clock,
    report: ({ message }) => alarms.push(message),
  })
  const flights = ['HE1', 'HE2', 'HE3', 'HE4', 'HE5', 'HE6']
  for (const flight of flights)
    await engine.submit('open-flight', { flight, rows: 1, letters: 'AB' }, { requestId: flight })
  const replies = await Promise.all(
    Array.from({ length: 60 }, (_, i) =>
      engine.submit(
        'hold-seat',
        { flight: flights[i % 6]!, row: 1, letter: i % 4 < 2 ? 'A' : 'B' },
        { requestId: `r${i}`, principal: `p${i}` },
      ),
    ),
  )
  const accepted = replies.filter(({ status }) => status === 'accepted').length
  const states = async () => (await engine.scan('seats')).map(({ value }) => value.state)
  assert.equal((await states()).filter((state) => state === 'held').length, accepted)
  assert.equal((await engine.scan('passengers')).length, accepted)
  now += holdMs
  for (const call of [...ring]) call()
  await engine.idle()
  assert.deepEqual([...new Set(await states())], ['free'])
  assert.deepEqual(alarms, [])
  await engine.close()
})
