import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Seats } from '../../examples/seats/seats.ts'
import type * as made from '../../test/apps/accounts.ts'
import { appsOf } from '../../test/apps.ts'
import { randomFrom } from '../../test/random.ts'
import { createEngine, HenceError, type Query } from '../index.ts'
import { HandClock } from '../testing/hand-clock.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

// Rows as they were: at each record, compared with what a reading gave when it was the last one.

const app = import.meta.resolve('../../examples/seats/seats.ts')

const queries: readonly (readonly [table: 'seats' | 'passengers', query: Query])[] = [
  ['seats', {}],
  ['seats', { reverse: true, limit: 7 }],
  ['seats', { prefix: ['f1'] }],
  ['seats', { prefix: ['f2', 2], from: ['B'] }],
  ['passengers', {}],
  ['passengers', { index: 'byPassenger' }],
  ['passengers', { index: 'byPassenger', reverse: true }],
  ['passengers', { index: 'byPassenger', prefix: ['p1'], limit: 2 }],
]

for (const partitions of [1, 4]) {
  test(`rows are as they were at every record (${partitions} partitions)`, async () => {
    const [clock, random] = [new HandClock(), randomFrom(partitions)]
    const engine = await createEngine<Seats>({
      app,
      data: memoryStorage({ partitions }),
      clock,
      report: () => {},
    })
    const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!
    const flights = ['f1', 'f2', 'f3', 'f4']
    const read = (at?: string | number) =>
      Promise.all(
        queries.map(([table, query]) =>
          engine.scan(table, query as never, { ...(at !== undefined && { at }) }),
        ),
      )
    const moments: { token: string; time: number; rows: unknown; seat: unknown }[] = []
    for (let n = 0; n < 90; n++) {
      clock.pass(1 + Math.floor(random() * 240_000))
      const flight = flights[n] ?? pick(flights)
      const type =
        n < flights.length ? 'open-flight' : pick(['hold-seat', 'hold-seat', 'book-seat', 'release-seat'])
      const input =
        type === 'open-flight'
          ? { flight, rows: 3, letters: 'ABC' }
          : { flight, row: pick([1, 2, 3]), letter: pick(['A', 'B', 'C']) }
      const { token } = await engine.submit(type as never, input as never, {
        requestId: `r${n}`,
        principal: pick(['p1', 'p2', 'p3']),
      })
      await engine.idle()
      const seat = await engine.get('seats', ['f1', 1, 'A'])
      moments.push({ token, time: engine.stats().logTime, rows: await read(), seat })
    }
    for (const { token, time, rows, seat } of moments) {
      for (const at of [token, time]) {
        assert.deepEqual(await read(at), rows, `at ${at}`)
        assert.deepEqual(await engine.get('seats', ['f1', 1, 'A'], { at }), seat, `at ${at}`)
      }
    }
    const { pastSince = 0 } = engine.stats()
    assert.equal(pastSince, moments[0]!.time)
    assert.deepEqual(await engine.scan('seats', {}, { at: pastSince - 1 }), [], 'before the first record')
    await engine.close()
  })
}

test('rows that change while they are read as they were are undone too', async () => {
  const engine = await createEngine<Seats>({ app, data: memoryStorage(), report: () => {} })
  const send = (type: 'open-flight' | 'hold-seat' | 'book-seat', n: number) =>
    engine.submit(
      type,
      (type === 'open-flight'
        ? { flight: `f${n}`, rows: 1, letters: 'A' }
        : { flight: `f${n}`, row: 1, letter: 'A' }) as never,
      { requestId: `${type}${n}`, principal: 'p' },
    )
  await send('open-flight', 0)
  const { token } = await send('open-flight', 1)
  await send('hold-seat', 1)
  // More records than are undone in one turn.
  await Promise.all(Array.from({ length: 2_500 }, (_, n) => send('open-flight', 2 + n)))
  const reading = engine.scan('seats', {}, { at: token })
  const changing = Promise.all([send('hold-seat', 0), send('book-seat', 1), send('open-flight', 9_999)])
  const rows = await reading
  assert.deepEqual(
    rows.map(({ key, value }) => [key[0], value.state]),
    [
      ['f0', 'free'],
      ['f1', 'free'],
    ],
  )
  await changing
  await engine.close()
})

test('a moment that is not kept, or before a promotion, is refused', async () => {
  const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/accounts.ts'))
  const engine = await createEngine<typeof made.bank>({
    app: await apps.bank(),
    data: memoryStorage(),
    report: () => {},
  })
  const { token } = await engine.submit('deposit', { account: 'a', cents: 5 }, { requestId: 'd' })
  // One record changes the row twice.
  await engine.submit('pay', { from: 'a', to: 'a', cents: 2 }, { requestId: 'p' })
  await engine.idle()
  assert.deepEqual(await engine.get('accounts', ['a'], { at: token }), { cents: 5 })
  const refused = (act: Promise<unknown>, code: string) =>
    assert.rejects(act, (error) => error instanceof HenceError && error.code === code)
  for (const at of ['0:9', '1:0', 'x', -1, 1.5])
    await refused(engine.scan('accounts', {}, { at }), 'position-unknown')
  await refused(engine.scan('hence.violations' as never, {}, { at: token }), 'query-invalid')
  await refused(engine.get('none' as never, ['a'] as never, { at: token }), 'unknown-table')
  await refused(engine.get('accounts', ['a', 1] as never, { at: token }), 'key-invalid')
  await refused(engine.scan('accounts', { index: 'none' as never }, { at: token }), 'query-invalid')

  await engine.reprocessing.start({ app: await apps.doubled() }, { share: 1 })
  await engine.reprocessing.caughtUp()
  const { sha256 } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff: sha256 }, { requestId: 'p' })
  await refused(engine.scan('accounts', {}, { at: token }), 'position-unknown')
  const { pastSince } = engine.stats()
  assert.deepEqual(await engine.get('accounts', ['a'], { at: pastSince }), { cents: 10 })
  await engine.submit('deposit', { account: 'a', cents: 7 }, { requestId: 'e' })
  assert.deepEqual(await engine.get('accounts', ['a']), { cents: 14 })
  await engine.close()
})
