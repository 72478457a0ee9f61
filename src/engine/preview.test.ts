import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as endless from '../../test/apps/endless-apology.ts'
import type * as made from '../../test/apps/tickets.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { createEngine, type Engine, HenceError } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { tickets } = appsOf<typeof made>(import.meta.resolve('../../test/apps/tickets.ts'))
const { endlessApology } = appsOf<typeof endless>(import.meta.resolve('../../test/apps/endless-apology.ts'))

const mo = { principal: 'mo' }

/** The rows, effects and failures of steps, by partition key: what a preview and a story have in common. */
const deeds = (steps: Awaited<ReturnType<Engine<never>['preview']>>['steps']) =>
  steps
    .filter(({ type }) => type === 'hence:compensate')
    .map(({ key, changes, effects, failure }) => ({
      key,
      changes,
      effects: effects.map(({ id, type, input }) => ({ id, type, input })),
      failure,
    }))
    .toSorted((a, b) => (a.key! < b.key! ? -1 : 1))

for (const partitions of [1, 8]) {
  test(`on ${partitions} partitions a preview is what the decision then does, and changes nothing`, async () => {
    const clock = new HandClock()
    const data = memoryStorage({ partitions, clock })
    const engine = await createEngine({
      app: await tickets({ mode: 'loose', limit: 2, review: 'human', deadlineMs: 60_000 }),
      data,
      clock,
      report: () => {},
      // The bank of the guest refuses once, so that the effect is given up.
      handlers: {
        sorry() {
          throw new HenceError('closed', 'change', 'closed')
        },
        delayed: () => {},
        seated: () => {},
      },
    })
    for (const [i, booking] of ['a', 'b', 'c', 'd'].entries()) {
      await engine.submit('hold', { booking, seats: i === 0 ? 2 : 1 }, { requestId: booking })
    }
    await engine.idle()
    const [open] = await engine.violations.list()
    const decision = { violation: open!.id, key: open!.key, reason: 'sold too many' } as const
    const before = [await engine.digest(), await engine.log.ends(), engine.stats().nextTimerAt]
    const unchanged = async () =>
      assert.deepEqual([await engine.digest(), await engine.log.ends(), engine.stats().nextTimerAt], before)

    const waived = await engine.preview('hence:resolve-violation', { ...decision, action: 'waive' }, mo)
    assert.deepEqual([waived.outcome?.status, waived.isWhole, deeds(waived.steps)], ['accepted', true, []])
    const [violation] = waived.steps.flatMap(({ changes }) => changes)
    assert.equal((violation!.after as { state: string }).state, 'resolved')
    const victims = [{ requestId: 'nobody' }]
    const choice = { ...decision, action: 'choose', victims } as const
    const refused = await engine.preview('hence:resolve-violation', choice, mo)
    assert.equal(refused.outcome?.status, 'rejected')
    const compensate = { ...decision, action: 'compensate' } as const
    const shown = await engine.preview('hence:resolve-violation', compensate, mo)
    assert.equal(shown.outcome?.status, 'accepted')
    await unchanged()

    await engine.violations.resolve(compensate, { requestId: 'r', ...mo })
    await engine.idle()
    const steps = []
    for (const requestId of ['a', 'b', 'c', 'd']) steps.push(...(await engine.story(requestId))!.steps)
    assert.ok(deeds(shown.steps).length >= 2)
    assert.deepEqual(deeds(shown.steps), deeds(steps))

    // An effect that was given up.
    let dead = await engine.effects.list({ state: 'dead' })
    for (; dead.length === 0; dead = await engine.effects.list({ state: 'dead' }))
      await new Promise(setImmediate)
    const [{ id: effect, key, input }] = dead as [(typeof dead)[number]]
    const again = await engine.preview('hence:redrive', { effect, key, reason: 'open again' }, mo)
    const sent = again.steps.flatMap(({ effects }) => effects)
    assert.deepEqual(
      sent.map(({ id, state, input }) => [id, state, input]),
      [[effect, 'pending', input]],
    )
    assert.equal((await engine.effects.get(effect))!.state, 'dead')
    await assert.rejects(engine.preview('hold' as never, { booking: 'e', seats: 1 } as never, mo), {
      code: 'unknown-request',
    })
    await engine.close()
  })
}

test('a function of the app that does not end costs its preview a refusal, and nobody else anything', async () => {
  const engine = await createEngine({
    app: await endlessApology(),
    data: memoryStorage({ partitions: 2 }),
    derivationMs: 50,
    report: () => {},
  })
  for (const booking of ['a', 'b']) await engine.submit('hold', { booking }, { requestId: booking })
  await engine.idle()
  const [open] = await engine.violations.list()
  const decision = { violation: open!.id, key: open!.key, action: 'compensate', reason: 'why' } as const
  const before = [await engine.digest(), await engine.log.ends()]
  await assert.rejects(engine.preview('hence:resolve-violation', decision, mo), { code: 'preview-too-long' })
  assert.deepEqual([await engine.digest(), await engine.log.ends()], before)
  const reply = await engine.submit('hold', { booking: 'c' }, { requestId: 'c' })
  assert.equal(reply.status, 'accepted')
  await engine.close()
})
