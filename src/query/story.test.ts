import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/bank.ts'
import { appsOf } from '../../test/apps.ts'
import { type App, createEngine, type Engine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../../test/apps/bank.ts'))

// A story keeps the first outcome of a request, and who approved each correction of it.

const old = await bank({ statement: 'paid' })
const strict = await bank({ statement: 'paid a lot', most: 500, corrects: true })

/** Opens an engine that knows some versions; the first of them derives three payments. */
async function paid(partitions: number) {
  const sent: string[] = []
  const engine: Engine<App> = await createEngine({
    app: old,
    data: memoryStorage({ partitions }),
    report: () => {},
    handlers: { letter: ({ input }: { input: { text: string } }) => void sent.push(input.text) } as never,
  })
  const pay = (requestId: string, cents: number) =>
    engine.submit('pay', { from: 'ann', to: 'bob', cents } as never, { requestId })
  for (const [requestId, cents] of [
    ['small', 11],
    ['letter', 45],
    ['large', 601],
  ] as const) {
    assert.equal((await pay(requestId, cents)).status, 'accepted')
  }
  return { engine, sent, promote: promoter(engine) }
}

function promoter(engine: Engine<App>) {
  return async (requestId: string, note?: string): Promise<string> => {
    const { sha256: diff } = await engine.reprocessing.diff()
    const approval = { diff, ...(note !== undefined && { note }) }
    await engine.reprocessing.promote(approval, { requestId, principal: 'mo' })
    return diff
  }
}

for (const partitions of [1, 4]) {
  test(`a story has the first outcome, its correction, who approved it, and the compensation (${partitions} partitions)`, async (t) => {
    const { engine, promote } = await paid(partitions)
    t.after(() => engine.close())
    const [small, large] = [(await engine.story('small'))!, (await engine.story('large'))!]
    await engine.reprocessing.start({ app: strict })
    const diff = await promote('p1', 'limit of 5.00 forgotten')
    await engine.idle()

    // A payment with the same outcome was not corrected.
    const still = (await engine.story('small'))!
    assert.deepEqual({ ...still, steps: [] }, { ...small, steps: [] })
    assert.ok(still.steps.every(({ correction }) => correction === undefined))

    const told = (await engine.story('large'))!
    assert.deepEqual(told.outcome, large.outcome)
    assert.deepEqual(told.corrected, { status: 'rejected', reason: 'too-much' })
    const corrections = told.steps.filter(({ kind }) => kind === 'correction')
    assert.equal(corrections.length, 1)
    const [{ correction, effects, key }] = corrections as [(typeof corrections)[0]]
    const [, fact] = await engine.reprocessing.history()
    assert.deepEqual(correction, {
      kind: 'outcome',
      before: large.outcome,
      after: told.corrected,
      promotion: {
        number: 1,
        at: fact!.at,
        generation: 1,
        version: engine.stats().version,
        principal: 'mo',
        requestId: 'p1',
        diff,
        note: 'limit of 5.00 forgotten',
      },
    })
    assert.equal(key, 'ann')
    assert.deepEqual(
      effects.map(({ type, input }) => [type, input]),
      [['letter', { to: 'ann', text: 'sorry: accepted → rejected' }]],
    )

    // An effect with another content.
    const letter = (await engine.story('letter'))!
    assert.equal(letter.corrected, undefined)
    const [step] = letter.steps.filter(({ kind }) => kind === 'correction')
    const [first] = letter.steps.flatMap(({ kind, effects }) => (kind === 'request' ? effects : []))
    const other = step?.correction
    assert.ok(other?.kind === 'effect')
    assert.equal(other.effect, first!.id)
    assert.deepEqual(other.before.input, { to: 'ann', text: 'paid 45' })
    assert.deepEqual(other.after, { input: { to: 'ann', text: 'paid a lot 45' } })

    // After going back the first outcome is right again, and the story has who approved that.
    const back = await promote('p2')
    const again = (await engine.story('large'))!
    assert.deepEqual([again.outcome, again.corrected], [large.outcome, undefined])
    const all = again.steps.flatMap(({ correction }) => correction ?? [])
    const last = all.find(({ kind }) => kind === 'outcome')
    assert.ok(last?.kind === 'outcome')
    assert.deepEqual([last.before, last.after], [told.corrected, large.outcome])
    assert.deepEqual([last.promotion.requestId, last.promotion.diff], ['p2', back])
  })
}

test('a corrected outcome stays the same after the same code has derived everything again', async (t) => {
  const { engine, promote } = await paid(2)
  t.after(() => engine.close())
  await engine.reprocessing.start({ app: strict })
  await promote('p1')
  const corrected = await engine.story('large')
  assert.equal(corrected!.steps.filter(({ correction }) => correction?.kind === 'outcome').length, 1)
  await engine.reprocessing.discard()
  await engine.reprocessing.start({ app: strict }, { again: true })
  await promote('p2')
  assert.deepEqual(await engine.story('large'), corrected)
})
