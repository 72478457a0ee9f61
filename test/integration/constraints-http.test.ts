import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type App, type AppBundle, createEngine, type Engine } from 'hence'
import { connect } from 'hence/client'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import type * as flights from '../../examples/airline/airline.ts'
import type * as seats from '../../examples/seats/seats.ts'
import { appsOf } from '../apps.ts'
import { randomFrom } from '../random.ts'

const { airline } = appsOf<typeof flights>(import.meta.resolve('../../examples/airline/airline.ts'))
const seating = await appsOf<typeof seats>(import.meta.resolve('../../examples/seats/seats.ts')).default()

// Sixty-four clients over HTTP compete for too few seats.

const people = Array.from({ length: 64 }, (_, i) => `person-${i}`)

/** An engine behind HTTP that uses the API key as the caller's name. */
async function serve<A extends App>(t: TestContext, app: AppBundle<A>, partitions: number) {
  const engine: Engine<A> = await createEngine({
    app,
    data: memoryStorage({ partitions }),
    report: ({ level, message }) => assert.notEqual(level, 'alarm', message),
  })
  const web = server(engine, {
    authenticate: (request) => ({
      principal: request.headers.get('authorization')!.slice('Bearer '.length),
      permissions: ['submit'],
    }),
  })
  const { url } = await web.listen()
  const connections = people.map((key) => connect<A>(url, { key }))
  t.after(async () => {
    for (const connection of connections) await connection.close()
    await web.close()
    await engine.close()
  })
  return { engine, connections }
}

const isAccepted = ({ status }: { status: string }) => status === 'accepted'

test('a hundred seats: each is booked once, by the client whose request was accepted', async (t) => {
  const { engine, connections } = await serve(t, seating, 1)
  await engine.submit('open-flight', { flight: 'f1', rows: 20, letters: 'ABCDE' }, { requestId: 'open' })
  const booked = new Map<string, string>()
  await Promise.all(
    people.map(async (person, i) => {
      const hence = connections[i]!
      const random = randomFrom(i)
      const seats = [...'ABCDE'].flatMap((letter) =>
        Array.from({ length: 20 }, (_, n) => ({ row: n + 1, letter })),
      )
      seats.sort(() => random() - 0.5)
      for (const { row, letter } of seats) {
        const seat = { flight: 'f1', row, letter }
        const held = await hence.submit('hold-seat', seat, { requestId: `hold-${row}${letter}` })
        if (!isAccepted(held)) continue
        const reply = await hence.submit('book-seat', seat, { requestId: `book-${row}${letter}` })
        assert.ok(isAccepted(reply), JSON.stringify(reply))
        assert.ok(!booked.has(`${row}${letter}`), 'one seat was given to two clients')
        booked.set(`${row}${letter}`, person)
      }
    }),
  )
  assert.equal(booked.size, 100)
  const rows = await engine.scan('passengers')
  assert.deepEqual(
    rows.map(({ key, value }) => [`${key[1]}${key[2]}`, value.passenger]).sort(),
    [...booked].sort(),
  )
})

for (const partitions of [1, 8]) {
  test(`strict: of 192 bookings for 100 seats 100 are accepted (${partitions} partitions)`, async (t) => {
    const { engine, connections } = await serve(t, await airline('strict', 0), partitions)
    await engine.submit('open-flight', { flight: 'f1', seats: 100 }, { requestId: 'open' })
    const replies = await Promise.all(
      connections.flatMap((hence, i) =>
        [0, 1, 2].map((n) => {
          const input = { booking: `b${i}-${n}`, flight: 'f1', fare: 'saver' } as const
          return hence.submit('book', input, { requestId: `book-${n}` })
        }),
      ),
    )
    assert.equal(replies.filter(isAccepted).length, 100)
    for (const reply of replies)
      assert.ok(isAccepted(reply) || (reply.status === 'rejected' && reply.reason === 'seats'))
    await engine.idle()
    assert.deepEqual(await engine.violations.usage('seats', 'f1'), { limit: 100, claimed: 100, excess: 0 })
    assert.equal((await engine.scan('bookings')).length, 100)
  })

  test(`loose with a margin of 5 %: all are accepted, at most 105 remain, every other one gets one apology (${partitions} partitions)`, async (t) => {
    const { engine, connections } = await serve(t, await airline('loose', { percent: 5 }), partitions)
    await engine.submit('open-flight', { flight: 'f1', seats: 100 }, { requestId: 'open' })
    const replies = await Promise.all(
      connections.flatMap((hence, i) =>
        [0, 1, 2].map((n) => {
          const input = { booking: `b${i}-${n}`, flight: 'f1', fare: 'saver' } as const
          return hence.submit('book', input, { requestId: `book-${n}` })
        }),
      ),
    )
    assert.equal(replies.filter(isAccepted).length, 192)
    await engine.idle()
    assert.deepEqual(await engine.violations.usage('seats', 'f1'), { limit: 100, claimed: 105, excess: 0 })
    const rows = await engine.scan('bookings')
    const denied = rows.filter(({ value }) => value.state === 'denied').map(({ key }) => key[0])
    assert.equal(denied.length, 192 - 105)
    const apologies = (await engine.effects.list({ type: 'rebook', limit: 1_000 })).map(({ key }) => key)
    assert.deepEqual(apologies.sort(), denied.sort(), 'the apologies are not one for each victim')
    const violations = await engine.violations.list({ limit: 1_000 })
    assert.ok(violations.every(({ state }) => state === 'resolved'))
    const gaveWay = violations.flatMap(({ victims }) => victims.map(({ key }) => key))
    assert.deepEqual(gaveWay.sort(), denied)
  })
}
