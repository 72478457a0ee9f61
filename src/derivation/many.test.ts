import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/many-events.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { createEngine } from '../engine/open-engine.ts'
import type { Report } from '../report.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/many-events.ts'))
const house = await apps.house()

// However much follows from one record, it must not stop the engine: the next start would meet the same
// record.

test('events beyond the bound fail, and everything else goes on', async () => {
  const codes = new Map<string, number>()
  const report = ({ code: of, message }: Report) => {
    if (of === 'derivation-slow') return
    const code = /failed with ([\w-]+)/.exec(message)?.[1] ?? message
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  const engine = await createEngine({ app: house, data: memoryStorage(), report })
  const input = { box: 'a', wide: 330, deep: 2 }
  assert.equal((await engine.submit('spread', input, { requestId: '1' })).status, 'accepted')
  assert.deepEqual(await engine.get('counts', ['a']), { count: 100_000 })
  assert.deepEqual([...codes], [['too-many-events', 1 + 330 + 330 * 330 - 100_000]])
  await engine.submit('spread', { box: 'b', wide: 1, deep: 1 }, { requestId: '2' })
  assert.deepEqual(await engine.get('counts', ['b']), { count: 2 })
  await engine.close()
})

test('any number of timers may be due at once', async () => {
  const clock = new HandClock()
  const engine = await createEngine({ app: house, data: memoryStorage({ clock }), clock, report: () => {} })
  const at = clock.now() + 1_000
  for (let from = 0; from < 101_000; from += 1_000) {
    await engine.submit('set', { box: 'a', from, to: from + 1_000, at }, { requestId: `r${from}` })
  }
  clock.pass(2_000)
  await engine.idle()
  assert.deepEqual(await engine.get('counts', ['a']), { count: 101_000 })
  await engine.close()
})

test('a timer that sets itself again goes on going off', async () => {
  const jobs = await apps.jobs()
  const clock = new HandClock()
  const codes: string[] = []
  const engine = await createEngine({
    app: jobs,
    data: memoryStorage({ clock }),
    clock,
    report: ({ message }) => codes.push(/failed with ([\w-]+)/.exec(message)?.[1] ?? message),
  })
  await engine.submit('start', { job: 'hourly', everyMs: 3_600_000 }, { requestId: '1' })
  clock.pass(3_600_000 * 1_500)
  await engine.idle()
  assert.deepEqual(await engine.get('runs', ['hourly']), { count: 1_501 })
  assert.deepEqual(codes, [])
  // A timer that sets itself for the same moment would go off without end.
  await engine.submit('start', { job: 'mad', everyMs: 0 }, { requestId: '2' })
  clock.pass(1)
  await engine.idle()
  assert.deepEqual(codes, ['chain-too-deep'])
  await engine.close()
})
