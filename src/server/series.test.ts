import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { HandClock } from '../../test/hand-clock.ts'
import { notes } from '../../test/server/serve.ts'
import type { SeriesView } from './series.ts'

test('the series has each request in its step, within its bound', async (t) => {
  const clock = new HandClock()
  const engine = await createEngine({ app: notes, data: memoryStorage({ clock }), clock, report: () => {} })
  const web = server(engine, { open: true, clock, report: () => {} })
  t.after(async () => {
    await web.close()
    await engine.close()
  })
  const { url } = await web.listen()
  let n = 0
  const write = async (stars: number) => {
    const body = JSON.stringify({ owner: 'ada', number: ++n, text: 'x', stars })
    const headers = { 'content-type': 'application/json', 'idempotency-key': `n${n}` }
    await (await fetch(`${url}/requests/write`, { method: 'POST', headers, body })).text()
  }
  const series = async (every: string) =>
    (await (await fetch(`${url}/series?every=${every}`)).json()) as SeriesView
  const start = clock.now()
  await write(1)
  await write(1)
  assert.deepEqual((await series('second')).at, [])
  clock.pass(1_000)
  await write(1)
  clock.pass(3_500)
  const seconds = await series('second')
  const at = [1, 2, 3, 4].map((s) => start + s * 1_000)
  assert.deepEqual([seconds.everyMs, seconds.at, seconds.accepted], [1_000, at, [2, 1, 0, 0]])
  assert.deepEqual(seconds.failed, [0, 0, 0, 0])
  assert.deepEqual(
    seconds.p99Ms.map((ms) => ms !== null),
    [true, true, false, false],
  )
  assert.deepEqual((await series('minute')).at, [])

  // A day and more later there are a day's minutes and five minutes' seconds.
  clock.pass(25 * 3_600_000)
  await write(1)
  clock.pass(60_000)
  const [day, last] = [await series('minute'), await series('second')]
  assert.deepEqual([day.at.length, last.at.length], [1_440, 300])
  assert.equal(day.accepted.at(-1), 1)
  assert.equal(last.at.at(-1)! - last.at[0]!, 299_000)
  assert.equal(
    last.accepted.reduce((sum, each) => sum + each, 0),
    1,
  )
  for (const each of [day, last]) {
    assert.equal(new Set(Object.values(each).map((column) => [column].flat().length)).size, 2)
  }
})
