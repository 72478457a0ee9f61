import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine } from 'hence'
import type * as made from '../apps/counting.ts'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'
import { uuid7 } from '../ids.ts'
import { randomFrom } from '../random.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/counting.ts'))
const hour = 3_600_000

test('the state does not grow once as much is forgotten as is added', async (context) => {
  const data = await mkdtemp(join(tmpdir(), 'hence-forgotten-'))
  context.after(() => rm(data, { recursive: true, force: true }))
  const clock = new HandClock()
  const random = randomFrom(7)
  const app = await apps.counting()
  const options = { app, data, clock, windowMs: hour, checkpointRows: 300, report: () => {} }
  const engine = await createEngine(options)
  const sizes: number[] = []
  // 20 requests a minute: a window has 1,200 of them, with outcomes and traces.
  for (let minute = 0; minute < 600; minute++) {
    clock.pass(60_000)
    const ids = Array.from({ length: 20 }, () => uuid7(clock.now(), random))
    await Promise.all(ids.map((requestId) => engine.submit('add', {}, { requestId })))
    if (minute % 60 === 59) sizes.push((await stat(join(data, 'state/0/data.mdb'))).size)
  }
  await engine.close()
  context.diagnostic(`bytes of the state by hour, with a window of one: ${sizes.join(', ')}`)
  const [, , third] = sizes
  assert.ok(sizes.at(-1)! <= 1.25 * third!, `${sizes}`)
})
