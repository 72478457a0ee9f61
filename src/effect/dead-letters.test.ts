import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HandClock } from '../testing/hand-clock.ts'
import { DeadLetters } from './dead-letters.ts'

test('fifty thousand effects that are given up make one alarm with their number', () => {
  const clock = new HandClock()
  const alarms: string[] = []
  const dead = new DeadLetters('email', { clock, report: ({ message }) => alarms.push(message) })
  const end = { done: false, tries: 20, error: 'the mail server is down' } as const
  for (let i = 1; i <= 50_000; i++) {
    dead.add(`id-${i}`, end)
    if (i % 5_000 === 0) clock.pass(900)
  }
  assert.deepEqual(alarms, [])
  clock.pass(1_000)
  assert.deepEqual(alarms, [
    '50,000 effects "email" were given up, the last one (id-50000) after 20 tries: the mail server is down. ' +
      'Mend the cause, then send them again with `hence effects redrive --type email`.',
  ])

  // While effects are given up, alarms come ever less often; after a pause, at once again.
  const hours = 10
  for (let minutes = 0; minutes < hours * 60; minutes++) {
    dead.add('id', end)
    clock.pass(60_000)
  }
  assert.ok(alarms.length > hours && alarms.length < 2 * hours, `${alarms.length} alarms`)
  const gathered = alarms.slice(1).map((alarm) => Number(/^\d*/.exec(alarm)![0]) || 1)
  dead.report()
  assert.ok(gathered.reduce((sum, count) => sum + count, 0) > hours * 60 - 61, 'effects are missing')
  clock.pass(3 * 60 * 60_000)
  alarms.length = 0
  dead.add('one', end)
  clock.pass(1_000)
  assert.match(alarms.join(), /^The effect "email" one was given up after 20 tries/)
})

test('those that were not reported yet are reported when the engine stops', () => {
  const alarms: string[] = []
  const dead = new DeadLetters('email', { clock: new HandClock(), report: ({ code }) => alarms.push(code) })
  dead.add('one', { tries: 1, error: 'no' })
  dead.report()
  dead.report()
  assert.deepEqual(alarms, ['effect-dead'])
})
