import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../apps/alarms.ts'
import { appsOf } from '../apps.ts'
import { HandClock, settle } from '../hand-clock.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/alarms.ts'))
const alarms = await apps.alarms()

// The system clock is set back ten years and forward ten. Log time never goes backwards, each timer fires
// once, at its time, and a replay has the same digest.

const hour = 3_600_000
const year = 365 * 24 * hour

for (const partitions of [1, 3]) {
  test(`a clock that is set back and forward fires each timer once, ${partitions} partitions`, async () => {
    const clock = new HandClock()
    const data = memoryStorage({ clock, partitions })
    const options = { app: alarms, clock, report: () => {}, checkpointRows: 1 }
    let engine = await createEngine({ ...options, data })
    let count = 0
    const started = clock.now()
    const setAlarm = async (name: string, inMs: number) => {
      const requestId = `r${count++}`
      const reply = await engine.submit('set', { desk: `desk ${name}`, name, inMs }, { requestId })
      await settle()
      assert.ok(reply.status === 'accepted')
      return reply.value - started
    }
    const fired = async () =>
      (await engine.scan('seen')).map(({ key, value }) => [key[1], value.at - started, value.times])
    const expected: (string | number)[][] = []
    const sees = async (...more: (string | number)[][]) => {
      await settle()
      expected.push(...more)
      assert.deepEqual((await fired()).sort(), expected.sort())
    }

    assert.equal(await setAlarm('a', hour), 0)
    await setAlarm('b', 24 * hour)
    await setAlarm('c', 11 * year)
    clock.pass(-10 * year)
    assert.equal(await setAlarm('d', 2 * hour), 0, 'log time stands still')
    await sees()
    clock.pass(10 * year + hour - 1)
    await sees()
    clock.pass(1)
    await sees(['a', hour, 1])
    // The engine restarts while the clock is wrong.
    await engine.close()
    clock.pass(10 * year - hour)
    engine = await createEngine({ ...options, data })
    await engine.idle()
    await sees(['b', 24 * hour, 1], ['d', 2 * hour, 1])
    clock.pass(-10 * year)
    assert.equal(await setAlarm('e', hour), 10 * year)
    await sees()
    await engine.close()
    engine = await createEngine({ ...options, data })
    await sees()
    clock.pass(12 * year)
    await sees(['c', 11 * year, 1], ['e', 10 * year + hour, 1])

    const digest = await engine.digest()
    await engine.close()
    const anew = await createEngine({
      ...options,
      data: { ...data, openStore: (generation, names) => data.openStore(generation, names, true) },
    })
    assert.equal(await anew.digest(), digest)
    assert.ok(anew.stats().replayed > 0)
    await anew.close()
  })
}
