import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../apps/alarms.ts'
import { appsOf } from '../apps.ts'
import { HandClock, settle } from '../hand-clock.ts'
import { uuid7 } from '../ids.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/alarms.ts'))
const alarms = await apps.alarms()

// The system clock jumps while an engine runs, and while none does. Log time never goes backwards and follows
// no jump, each timer fires once, at its time, fresh ids are taken, and a replay has the same digest.

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

for (const partitions of [1, 3]) {
  const world = async () => {
    const clock = new HandClock()
    const started = clock.now()
    const data = memoryStorage({ clock, partitions })
    const reports: string[] = []
    const options = {
      app: alarms,
      clock,
      checkpointRows: 1,
      report: ({ code, message }: { code: string; message: string }) =>
        void reports.push(`${code}: ${message}`),
    }
    let engine = await createEngine({ ...options, data })
    let count = 0
    /** Sets an alarm with a fresh id, as a client with a right clock makes one. */
    const set = async (name: string, inMs: number, made = started + clock.elapsed()) => {
      const reply = await engine.submit(
        'set',
        { desk: `desk ${name}`, name, inMs },
        { requestId: uuid7(made), principal: `p${count++}` },
      )
      await settle()
      assert.ok(reply.status === 'accepted')
      return reply.value - started
    }
    const fired = async () => {
      await settle()
      const seen = await engine.scan('seen')
      return seen.map(({ key, value }) => [key[1], value.at - started, value.times]).sort()
    }
    const reopen = async (more: object = {}) => {
      await engine.close()
      engine = await createEngine({ ...options, ...more, data })
      await engine.idle()
      return engine
    }
    const codes = () => reports.splice(0).map((report) => report.split(':')[0])
    const end = async () => {
      const digest = await engine.digest()
      await engine.close()
      const anew = await createEngine({
        ...options,
        data: { ...data, openStore: (generation, names) => data.openStore(generation, names, true) },
      })
      assert.equal(await anew.digest(), digest)
      assert.ok(anew.stats().replayed > 0)
      await anew.close()
    }
    return { clock, set, fired, reopen, codes, end, reports, confirm: () => engine.confirmClock() }
  }

  for (const jump of [31 * day, -31 * day]) {
    const where = `${jump / day} days, ${partitions} partitions`

    test(`a running engine does not follow a clock that jumps by ${where}`, async () => {
      const { clock, set, fired, codes, end, reports } = await world()
      await set('a', 2 * hour)
      clock.jump(jump)
      assert.equal(await set('b', hour), 0)
      assert.match(
        reports.join(),
        /clock-jumped: The clock says .*and by the time that has passed it is 2026-01-01T00:00:00/,
      )
      assert.deepEqual(codes(), ['clock-jumped'])
      clock.pass(hour)
      assert.deepEqual(await fired(), [['b', hour, 1]])
      assert.equal(await set('c', hour), hour)
      clock.jump(-jump)
      assert.equal(await set('d', hour), hour)
      assert.deepEqual(codes(), ['clock-followed'])
      clock.pass(hour)
      assert.deepEqual(await fired(), [
        ['a', 2 * hour, 1],
        ['b', hour, 1],
        ['c', 2 * hour, 1],
        ['d', 2 * hour, 1],
      ])
      await end()
    })
  }

  test(`an operator confirms a clock that was set right, ${partitions} partitions`, async () => {
    const { clock, set, codes, end, confirm } = await world()
    await set('a', 2 * hour)
    clock.jump(day)
    // Clients have the right time, which the log does not have yet.
    await set('b', 2 * hour, clock.now())
    assert.deepEqual(codes(), ['clock-jumped'])
    confirm()
    assert.equal(await set('c', hour, clock.now()), day)
    assert.deepEqual(codes(), [])
    await end()
  })

  test(`a clock that is corrected by less than a minute is followed, ${partitions} partitions`, async () => {
    const { clock, set, codes, end } = await world()
    clock.jump(minute)
    assert.equal(await set('a', hour), minute)
    clock.pass(2 * hour)
    clock.jump(-minute)
    assert.equal(await set('b', hour), 2 * hour + minute, 'log time does not go back')
    clock.pass(hour)
    assert.equal(await set('c', hour), 3 * hour)
    assert.deepEqual(codes(), [])
    await end()
  })

  test(`a start far beyond the log needs a confirmation, after a week it does not, ${partitions} partitions`, async () => {
    const { clock, set, fired, reopen, codes, end } = await world()
    await set('a', hour)
    clock.pass(7 * day)
    await reopen()
    assert.equal((await fired()).length, 1)
    clock.jump(31 * day)
    await assert.rejects(reopen(), { code: 'clock-unconfirmed', advice: 'operator' })
    clock.jump(-31 * day)
    await reopen()
    assert.equal(await set('b', hour), 7 * day)
    clock.pass(31 * day)
    await reopen({ confirmClock: true })
    assert.equal((await fired()).length, 2)
    assert.deepEqual(codes(), [])
    await end()
  })

  test(`after a start with a wrong clock nothing is lost, and timers go off, ${partitions} partitions`, async () => {
    const { clock, set, fired, reopen, codes, end } = await world()
    await set('a', 30 * day)
    clock.jump(29 * day)
    await reopen()
    assert.equal(await set('b', hour), 29 * day)
    clock.jump(-29 * day)
    await reopen()
    assert.deepEqual(codes(), ['clock-jumped', 'log-time-ahead'])
    // Log time goes on at half the pace until the clock has caught up.
    const at = await set('c', hour)
    assert.ok(at >= 29 * day && at < 29 * day + minute, String(at))
    for (let i = 0; i < 2 * 60 + 2; i++) {
      clock.pass(minute)
      await settle()
    }
    assert.deepEqual(
      (await fired()).map(([name]) => name),
      ['b', 'c'],
    )
    for (let i = 0; i < 60; i++) {
      clock.pass(day)
      await settle()
    }
    assert.deepEqual(
      (await fired()).map(([name]) => name),
      ['a', 'b', 'c'],
    )
    assert.equal(await set('d', hour), clock.elapsed())
    assert.deepEqual(codes(), [])
    await end()
  })
}
