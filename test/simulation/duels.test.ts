import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Reply } from 'hence'
import type * as made from '../apps/duel.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { firstSeed, oneSeed, replayKept } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/duel.ts'))
const duel = await apps.duel()

// Two requests claim the same two things in opposite order, again and again, on 16 partitions, while the
// process crashes now and then. Exactly one of them wins and neither gets stuck; with locks taken one by one,
// at least one of these would fail.

const duels = Number(process.env['HENCE_DUELS'] ?? 1_500)
const duelsPerWorld = 5_000
const partitions = 16
const pairs = 64

async function world(seed: number, count: number) {
  const random = randomFrom(seed)
  // No duration passes by this clock, so however slow the machine is, nothing counts as held up.
  const clock = {
    now: () => 1_790_000_000_000 + Math.floor(random() * 1_000),
    alarm: () => () => {},
    elapsed: () => 0,
  }
  const storage = new CrashingStorage({ partitions, clock, id: seed.toString(16).padStart(32, '0'), random })
  const alarms: string[] = []
  const open = () =>
    createEngine({
      app: duel,
      data: storage.open(),
      clock,
      // Some appends fail in a row.
      report: ({ level, code, message }) =>
        level === 'alarm' && code !== 'writes-held-up' && alarms.push(message),
    })
  let engine = await open()
  let isDying = false
  let died = Promise.withResolvers<'died'>()
  const crash = async () => {
    isDying = true
    storage.crash()
    const { resolve } = died
    engine = await open()
    died = Promise.withResolvers()
    isDying = false
    resolve('died')
  }
  /** Calls the engine, and calls the next one if it crashes meanwhile. */
  const lasting = async <T>(act: () => Promise<T>): Promise<T> => {
    for (;;) {
      const death = died.promise
      if (isDying) await death
      const result = await Promise.race([act(), death])
      if (result !== 'died') return result as T
    }
  }

  let begun = 0
  let crashes = 0
  const wins = [0, 0]
  const fight = async (pair: number) => {
    for (let round = 0; begun < count; round++) {
      begun++
      // Hands and things are in other partitions each time.
      const [x, y] = [`x${pair}-${round % 7}`, `y${pair}-${round % 5}`]
      const sides = [
        { hand: `left-${pair}-${round % 3}`, things: [x, y], id: `l${pair}-${round}` },
        { hand: `right-${pair}-${round % 3}`, things: [y, x], id: `r${pair}-${round}` },
      ]
      if (round % 2 === 1) sides.reverse()
      const replies: Reply[] = await Promise.all(
        sides.map(({ hand, things, id }) =>
          lasting<Reply>(() => engine.submit('take', { hand, things }, { requestId: id })),
        ),
      )
      const winners = sides.filter((_, i) => replies[i]!.status === 'accepted')
      assert.equal(winners.length, 1, `${JSON.stringify(replies)}: not exactly one winner`)
      wins[winners[0]!.id.startsWith('l') ? 0 : 1]!++
      const { token } = await lasting<Reply>(() =>
        engine.submit('drop', { hand: winners[0]!.hand }, { requestId: `d${pair}-${round}` }),
      )
      // Wait until the released claims, and those that the loser was granted, have reached the judge.
      const after = [token, ...replies.map((reply) => reply.token)]
      await lasting(() => engine.get('hands', [winners[0]!.hand, ''], { after }))
    }
  }
  const crashing = (async () => {
    while (begun < count) {
      for (let turns = 100 + Math.floor(random() * 400); turns > 0 && begun < count; turns--)
        await new Promise(setImmediate)
      if (begun >= count) break
      crashes++
      await crash()
    }
  })()
  await Promise.all(Array.from({ length: pairs }, (_, pair) => fight(pair)))
  await crashing
  await engine.idle()
  assert.deepEqual(await engine.scan('hands'), [])
  for (let pair = 0; pair < pairs; pair++) {
    for (let i = 0; i < 7; i++)
      assert.equal((await engine.violations.usage('taken', `x${pair}-${i}`)).claimed, 0)
    for (let i = 0; i < 5; i++)
      assert.equal((await engine.violations.usage('taken', `y${pair}-${i}`)).claimed, 0)
  }
  assert.deepEqual(alarms, [])
  await engine.close()
  return { begun, crashes, left: wins[0]!, right: wins[1]! }
}

replayKept('duels', (seed: number) => world(seed, 400))

const name = crashAt('any turn of the event loop', `exactly one side wins each of ${duels} duels`)
test(name, async (t) => {
  const sum = { begun: 0, crashes: 0, left: 0, right: 0 }
  for (let seed = firstSeed; sum.begun < duels; seed++) {
    const count = Math.min(duelsPerWorld, duels - sum.begun)
    const counts = await oneSeed('duels', seed, (seed) => world(seed, count))
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name]
  }
  t.diagnostic(JSON.stringify(sum))
  assert.equal(sum.left + sum.right, sum.begun)
  assert.ok(Math.min(sum.left, sum.right) > duels / 10, 'one side hardly ever wins')
})
