import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createEngine, HenceError, type Reply } from 'hence'
import type * as made from '../apps/boxes.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { uuid7 } from '../ids.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/boxes.ts'))
const store = await apps.store()

// Ids are sent again after hours or weeks, while windows change, engines close and crash, and traffic moves
// the watermark, and while the machine's clock jumps. No id is decided twice, now or in a replay, whatever
// was pruned, and an id of today is never refused, unless a start had a clock far behind.

const { runs } = runsOf(150)
const hour = 3_600_000
const day = 24 * hour
const names = 12

type Moment =
  | { readonly send: number }
  | { readonly pass: number }
  | { readonly jump: number }
  | { readonly open: 'close' | 'crash'; readonly windowMs: number }
const moment: fc.Arbitrary<Moment> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ send: fc.nat(names - 1) }) },
  { weight: 6, arbitrary: fc.record({ pass: fc.constantFrom(60_000, hour, 20 * hour, 8 * day) }) },
  { weight: 2, arbitrary: fc.record({ jump: fc.constantFrom(-40, -1, 0, 2, 29, 40) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      open: fc.constantFrom('close' as const, 'crash' as const),
      windowMs: fc.constantFrom(hour, day, 30 * day),
    }),
  },
)

type World = [partitions: number, checkpointRows: number, moments: Moment[], seed: number]
const worlds = fc.asyncProperty<World>(
  fc.constantFrom(1, 3),
  fc.constantFrom(1, 5, 1000),
  fc.array(moment, { maxLength: 60 }),
  fc.nat(),
  (...world) => live(world),
)

async function live([partitions, checkpointRows, moments, seed]: World): Promise<void> {
  const random = randomFrom(seed)
  let now = Date.UTC(2026, 0, 1)
  let jumped = 0
  const clock = { now: () => now + jumped, elapsed: () => now }
  const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random })
  const alarms: string[] = []
  const open = (windowMs: number, confirmClock = false) =>
    createEngine({
      app: store,
      data: storage.open(),
      checkpointRows,
      windowMs,
      confirmClock,
      clock,
      report: ({ code, message }) => {
        if (!/^(clock-|log-time-)/.test(code)) alarms.push(`${code}: ${message}`)
      },
    })
  let engine = await open(day)
  const ids = new Map<number, string>()
  const replies = new Map<number, Reply>()
  let wasBehind = false
  const send = async (name: number, requestId: string): Promise<void> => {
    try {
      const reply = await engine.submit('put', { box: `box ${name}`, n: 1 }, { requestId })
      const { replayed: _, ...first } = replies.get(name) ?? reply
      const { replayed: __, ...again } = reply
      assert.deepEqual(again, first, 'a retry got another reply')
      replies.set(name, reply)
    } catch (error) {
      assert.ok(error instanceof HenceError, String(error))
      if (wasBehind && error.code === 'request-id-from-the-future') {
        // A start with a clock far behind cannot know how long it has been: an operator sets the clock right.
        wasBehind = false
        jumped = 0
        await engine.close()
        engine = await open(day, true)
        await send(name, requestId)
      } else assert.equal(error.code, 'request-id-expired', String(error))
    }
  }
  let fresh = names
  for (const each of moments) {
    if ('pass' in each) {
      now += each.pass
      const before = replies.size
      await send(fresh, uuid7(now, random))
      assert.equal(replies.size, before + 1, 'an id of today is refused')
      fresh++
    } else if ('jump' in each) {
      jumped = each.jump * day
    } else if ('send' in each) {
      const id = ids.get(each.send) ?? uuid7(now, random)
      ids.set(each.send, id)
      await send(each.send, id)
    } else {
      if (each.open === 'crash') storage.crash()
      else await engine.close()
      wasBehind ||= jumped < 0
      try {
        engine = await open(each.windowMs)
      } catch (error) {
        assert.ok(error instanceof HenceError && error.code === 'clock-unconfirmed', String(error))
        // An operator sets the clock right, and confirms it: the log may have stood still for long.
        jumped = 0
        engine = await open(each.windowMs, true)
      }
    }
  }
  await engine.idle()
  assert.deepEqual(alarms, [])
  const sums = async () => {
    for (const { key, value } of await engine.scan('boxes'))
      assert.equal(value.sum, 1, `${key} is decided twice`)
    assert.equal((await engine.scan('boxes')).length, replies.size)
  }
  await sums()
  const digest = await engine.digest()
  await engine.close()
  engine = await createEngine({
    app: store,
    data: storage.open(true),
    clock,
    confirmClock: true,
    report: () => {},
  })
  await sums()
  assert.equal(await engine.digest(), digest)
  await engine.close()
}

replayKept('forgetting', live)

const name = crashAt(
  'any turn of the event loop',
  `no id is decided twice, however it is forgotten, ${runs} runs`,
)
test(name, () => checkProperty('forgetting', worlds, runs))
