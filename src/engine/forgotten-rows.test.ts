import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as letters from '../../test/apps/letters.ts'
import type * as stock from '../../test/apps/stock.ts'
import { appsOf } from '../../test/apps.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import { HandClock } from '../testing/hand-clock.ts'
import { memoryStorage } from '../testing/index.ts'

const { greeter, reminder } = appsOf<typeof letters>(import.meta.resolve('../../test/apps/letters.ts'))
const { shopWith } = appsOf<typeof stock>(import.meta.resolve('../../test/apps/stock.ts'))
const day = 24 * 60 * 60 * 1000

// A checkpoint removes the rows of what is forgotten, sooner or later. A start from the log alone finds them
// still there, and must derive the same.

function house(effect: 'letter' | 'sorry') {
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const open = async (app: AppBundle, log = data, checkpointRows = 1) =>
    (await createEngine({
      ...{ app, clock, data: log, windowMs: day, checkpointRows },
      ...{ handlers: { [effect]: () => {} }, report: () => {} },
    } as never)) as Engine<App>
  let count = 0
  return {
    clock,
    open,
    fromLog(app: AppBundle) {
      return open(app, { ...memoryStorage({ clock }), log: data.log, kept: data.kept }, 10_000)
    },
    /** Sends a request, and waits until its effects are delivered. */
    async send(engine: Engine<App>, type: string, input: object) {
      await engine.submit(type as never, input as never, { requestId: `r${count++}` })
      await delivered(engine)
    },
  }
}

async function delivered(engine: Engine<App>): Promise<void> {
  await engine.idle()
  while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
  await engine.idle()
}

async function isRefused(engine: Engine<App>, reason: string): Promise<void> {
  assert.deepEqual((await engine.story('again'))!.outcome, { status: 'rejected', reason })
}

test('a redrive of a forgotten effect is refused alike by a start from the log', async () => {
  const { clock, open, fromLog, send } = house('letter')
  const app = await greeter({ name: 'g' })
  const engine = await open(app)
  await send(engine, 'greet', { to: 'ann' })
  const [letter] = await engine.effects.list({ state: 'done' })
  for (const to of ['bob', 'cyd', 'dan']) {
    clock.pass(2 * day)
    await send(engine, 'greet', { to })
  }
  const { id: effect, key } = letter!
  assert.equal(await engine.effects.get(effect), undefined, 'its row is removed')
  await engine.effects.redrive({ effect, key, reason: 'lost' }, { requestId: 'again' })
  await isRefused(engine, 'effect-unknown')
  await engine.close()
  const again = await fromLog(app)
  await isRefused(again, 'effect-unknown')
  await again.close()
})

test('a decision about a forgotten violation is refused alike by a start from the log', async () => {
  const { clock, open, fromLog, send } = house('sorry')
  const app = await shopWith({ mode: 'loose', limit: 1, review: 'human', deadlineMs: 100 * day })
  const engine = await open(app)
  for (const order of ['o1', 'o2']) await send(engine, 'place', { order, skus: ['a'] })
  const { id: violation, key } = (await engine.violations.list())[0]!
  const waive = { violation, key, action: 'waive', reason: 'so be it' } as const
  await engine.violations.resolve(waive, { requestId: 'first' })
  for (const order of ['o3', 'o4', 'o5']) {
    clock.pass(2 * day)
    await send(engine, 'place', { order, skus: [order] })
  }
  assert.equal(await engine.violations.get(key, violation), undefined, 'its row is removed')
  await engine.violations.resolve(waive, { requestId: 'again' })
  await isRefused(engine, 'violation-unknown')
  await engine.close()
  const again = await fromLog(app)
  await isRefused(again, 'violation-unknown')
  await again.close()
})

test('an effect is asked for after its result was forgotten, alike by a start from the log', async () => {
  const { clock, open, fromLog, send } = house('letter')
  const hour = day / 24
  const engine = await open(await reminder(hour))
  await send(engine, 'remind', { to: 'ann' })
  clock.pass(2 * hour)
  await delivered(engine)
  const later = await reminder(4 * day)
  await engine.reprocessing.start({ app: later })
  for (const to of ['bob', 'cyd', 'dan']) {
    clock.pass(1.5 * day)
    await send(engine, 'remind', { to })
    // Saves the candidate, which removes what is forgotten.
    await engine.reprocessing.diff()
  }
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  await delivered(engine)
  const sent = await engine.effects.list({ state: 'done' })
  await engine.close()
  const again = await fromLog(later)
  assert.deepEqual(await again.effects.list({ state: 'done' }), sent)
  await again.close()
})
