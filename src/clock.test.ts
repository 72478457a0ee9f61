import assert from 'node:assert/strict'
import { test } from 'node:test'
import { elapsed, pause, setAlarm, setTimer } from './clock.ts'

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

test('durations are those of the clock, if it has timers', async () => {
  const timers: { readonly ms: number; readonly done: () => void; cancelled: boolean }[] = []
  const clock = {
    now: () => 0,
    elapsed: () => 42.5,
    timer(ms: number, done: () => void) {
      const timer = { ms, done, cancelled: false }
      timers.push(timer)
      return () => {
        timer.cancelled = true
      }
    },
  }
  assert.equal(elapsed(clock), 42.5)
  const { signal } = new AbortController()
  let isOver = false
  const over = pause(clock, 3_600_000, signal).then(() => {
    isOver = true
  })
  await new Promise(setImmediate)
  assert.deepEqual([timers.length, timers[0]!.ms, isOver], [1, 3_600_000, false])
  timers[0]!.done()
  await over
  const stopping = new AbortController()
  const stopped = pause(clock, 3_600_000, stopping.signal)
  stopping.abort()
  await stopped
  assert.ok(timers[1]!.cancelled)
  await pause(clock, 3_600_000, stopping.signal)
  assert.equal(timers.length, 2, 'an aborted signal needs no timer')
})

test('durations pass by the runtime where the clock stands still', async () => {
  const clock = { now: () => 0 }
  const begun = elapsed(clock)
  await pause(clock, 5, new AbortController().signal)
  assert.ok(elapsed(clock) > begun)
  setTimer(clock, 0, () => assert.fail('it was cancelled'))()
})
