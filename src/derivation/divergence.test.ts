import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/doors.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { createEngine } from '../engine/open-engine.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/doors.ts'))
const house = await apps.house()

// Dev mode reports derivations that are not deterministic, and then goes on: a timer goes off once, and no
// request waits for ever.

test('a timer whose reaction is not deterministic goes off once', async () => {
  const clock = new HandClock()
  const alarms: string[] = []
  const data = memoryStorage({ clock })
  const engine = await createEngine({
    app: house,
    data,
    clock,
    check: true,
    report: ({ message }) => alarms.push(message),
  })
  await engine.submit('set', { box: 'a', at: clock.now() + 1_000 }, { requestId: '1' })
  for (let i = 0; i < 5; i++) {
    clock.pass(2_000)
    await settle()
  }
  assert.equal(engine.stats().nextTimerAt, undefined)
  assert.ok(await engine.get('boxes', ['a']))
  assert.equal(alarms.length, 1)
  assert.match(alarms[0]!, /divergence/)
  assert.equal(await data.log.end(0), 3)
  await engine.close()
})

test('a request that is not deterministic is decided, wherever its claims are judged', async () => {
  const keys = ['a', 'b', 'c', 'd']
  const [near, far] = [0, 1].map((partition) => keys.find((key) => partitionOf(key, 2) === partition)!)
  for (const lock of [near!, far!]) {
    const alarms: string[] = []
    const engine = await createEngine({
      app: house,
      data: memoryStorage({ partitions: 2 }),
      check: true,
      report: ({ message }) => alarms.push(message),
    })
    const reply = await engine.submit('take', { box: near!, lock }, { requestId: '1' })
    assert.ok(reply.status !== 'rejected')
    assert.equal(alarms.filter((message) => /divergence/.test(message)).length, 1)
    await engine.close()
  }
})
