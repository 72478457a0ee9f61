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
const minute = 60_000
const hour = 60 * minute

// A window has so many requests, with outcomes and traces: a few in each turn, or more than a piece forgets.
for (const [name, window, atOnce, checkpointRows, hours] of [
  ['a few requests at a time', 1_200, 20, 300, 10],
  ['a thousand requests at a time', 12_000, 1_000, 1_000, 6],
] as const)
  test(`the state does not grow once as much is forgotten as is added: ${name}`, async (context) => {
    const data = await mkdtemp(join(tmpdir(), 'hence-forgotten-'))
    context.after(() => rm(data, { recursive: true, force: true }))
    const clock = new HandClock()
    const random = randomFrom(7)
    const app = await apps.counting()
    const engine = await createEngine({
      ...{ app, data, clock, checkpointRows },
      windowMs: hour,
      report: () => {},
    })
    const sizes: number[] = []
    const rounds = window / atOnce
    for (let round = 1; round <= hours * rounds; round++) {
      clock.pass(hour / rounds)
      const ids = Array.from({ length: atOnce }, () => uuid7(clock.now(), random))
      await Promise.all(ids.map((requestId) => engine.submit('add', {}, { requestId })))
      if (round % rounds === 0) sizes.push((await stat(join(data, 'state/0/data.mdb'))).size)
    }
    await engine.close()
    context.diagnostic(`bytes of the state by hour, with a window of one: ${sizes.join(', ')}`)
    const [, , third] = sizes
    assert.ok(sizes.at(-1)! <= 1.25 * third!, `${sizes}`)
  })
