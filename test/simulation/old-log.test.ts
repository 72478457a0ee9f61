import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import { encodeRequest, encodeWatermark } from '../../src/log/record.ts'
import type * as made from '../apps/once.ts'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/once.ts'))

const day = 86_400_000

/** A request to count in a box, whose id is of a time. */
function record(time: number, box: string, id: number) {
  const hex = time.toString(16).padStart(12, '0')
  const uuid = `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-${String(id).padStart(12, '0')}`
  return encodeRequest(`7${uuid}\0`, 'add', JSON.stringify({ box }), undefined, 1)
}

test('a request that is twice in an old log is derived once, however late it is replayed', async () => {
  const house = await apps.house()
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const now = clock.now()
  const twice = record(now, 'a', 0)
  await data.log.append(0, [twice])
  for (let i = 1; i <= 20; i++) await data.log.append(0, [record(now, `other${i}`, i)])
  await data.log.append(0, [twice])
  clock.pass(90 * day)
  const engine = await createEngine({
    app: house,
    data,
    clock,
    checkpointRows: 2,
    confirmClock: true,
    report: () => {},
  })
  assert.deepEqual(await engine.get('boxes', ['a']), { count: 1 })
  await engine.close()
})

test('a request whose id had been forgotten at its place in the log derives nothing', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const now = clock.now()
  await data.log.append(0, [encodeWatermark({ before: now, time: now })])
  // It may have been decided before, so it is not taken for a new one, though nothing of it is stored.
  await data.log.append(0, [record(now - 1, 'old', 1), record(now + 1, 'new', 2)])
  const engine = await createEngine({ app: await apps.house(), data, clock, report: () => {} })
  assert.equal(await engine.get('boxes', ['old']), undefined)
  assert.deepEqual(await engine.get('boxes', ['new']), { count: 1 })
  await engine.close()
})
