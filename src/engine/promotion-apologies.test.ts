import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/apologies.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { type App, createEngine, type Engine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/apologies.ts'))

// An apology must keep its id when other code makes others before it; else it would be sent twice.

type Book = { by: string; units?: number; limit?: number; fails?: boolean }

/** Derives bookings, and what comes after them, by both codes; returns the effects before and after. */
async function promoted(bookings: readonly Book[], after?: 'begin' | 'open') {
  const clock = new HandClock()
  const data = memoryStorage({ partitions: 2, clock })
  const given = { data, clock, report: () => {}, deliver: false }
  const engine = (await createEngine({ app: await apps.apologies(false), ...given } as never)) as Engine<App>
  for (const each of bookings) {
    await engine.submit(after === 'open' ? 'wait' : 'book', { hall: 'h', ...each } as never, {
      requestId: each.by,
    })
  }
  if (after) await engine.submit(after, { hall: 'h' } as never, { requestId: after })
  await engine.idle()
  // The waiting list is served a step in each millisecond; then the time to confirm passes.
  for (const ms of [1, 1, 1, 1_000, 1, 1, 1]) {
    clock.pass(ms)
    await engine.submit('begin', { hall: 'other' } as never, { requestId: `tick-${clock.now()}` })
    await engine.idle()
  }
  const effects = async () => {
    const all = await engine.effects.list({ limit: 1_000 })
    return new Map(all.map(({ id, input, state }) => [id, `${state} ${JSON.stringify(input)}`]))
  }
  const before = await effects()
  await engine.reprocessing.start({ app: await apps.apologies(true) })
  await engine.reprocessing.caughtUp()
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  await engine.idle()
  const later = await effects()
  await engine.close()
  return { before, after: later }
}

function assertKept({ before, after }: Awaited<ReturnType<typeof promoted>>, count: number, more: number) {
  assert.equal(before.size, count)
  assert.equal(after.size, count + more)
  for (const [id, text] of before) assert.equal(after.get(id), text)
}

test('a victim keeps its apology when other code has another victim before it', async () => {
  const first = { by: 'ann', units: 1, fails: true }
  assertKept(await promoted([first, { by: 'bob', units: 2, limit: 1 }]), 1, 1)
})

test('also where the judge needs several steps for the victims', async () => {
  const most = Array.from({ length: 230 }, (_, i) => ({ by: `guest-${i}`, units: 1 }))
  const all = [{ by: 'ann', units: 1, fails: true }, ...most, { by: 'zoe', units: 1, limit: 0 }]
  assertKept(await promoted(all), 231, 1)
})

test('an event about a claim that was settled keeps its id, also over several steps', async () => {
  const most = Array.from({ length: 230 }, (_, i) => ({ by: `guest-${i}`, units: 1 }))
  assertKept(await promoted([{ by: 'ann', units: 1, fails: true }, ...most], 'begin'), 230, 1)
})

test('who is served, and does not confirm, keeps both messages, also over several steps', async () => {
  const most = Array.from({ length: 230 }, (_, i) => ({ by: `guest-${i}` }))
  assertKept(await promoted([{ by: 'ann', fails: true }, ...most], 'open'), 460, 2)
})
