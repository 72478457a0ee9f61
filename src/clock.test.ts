import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setAlarm } from './clock.ts'

test('an alarm of the runtime rings when its time has come, or when the clock was set back', async () => {
  let offset = 0
  const clock = { now: () => Date.now() + offset }
  const rung = (time: number) =>
    new Promise<void>((resolve) => {
      const timer = setInterval(() => {}, 1_000)
      setAlarm(clock, time, () => {
        clearInterval(timer)
        resolve()
      })
    })
  const time = clock.now() + 20
  await rung(time)
  assert.ok(clock.now() >= time)
  const later = clock.now() + 20
  const ringing = rung(later)
  offset = -3650 * 86_400_000
  await ringing
  assert.ok(clock.now() < later)
  const taken = setAlarm(clock, clock.now(), () => assert.fail('it was taken back'))
  taken()
  await rung(clock.now() - 1)
})
