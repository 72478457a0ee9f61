import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/bank.ts'
import { appsOf } from '../../test/apps.ts'
import { randomFrom } from '../../test/random.ts'
import { type App, type AppBundle, createEngine, type Engine, type Outcome } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../../test/apps/bank.ts'))

/** Engines over one storage, one after the other, whose handlers record what they deliver. */
function house(partitions: number) {
  const data = memoryStorage({ partitions })
  const sent: string[] = []
  return {
    data,
    sent,
    open(code: AppBundle, options: object = {}): Promise<Engine<App>> {
      return createEngine({
        app: code,
        data,
        report: () => {},
        handlers: {
          letter({ id, input }: { id: string; input: { to: string; text: string } }) {
            sent.push(`${id} ${input.to}: ${input.text}`)
          },
        },
        ...options,
      } as never)
    },
  }
}

const people = 'abcdefghijklmnop'.split('').map((letter) => `${letter}1`)

/** Sends payments, many at a time, and returns the replies by request id. */
async function load(engine: Engine<App>, name: string, count: number): Promise<Map<string, Outcome>> {
  const random = randomFrom(name.length + count)
  const someone = () => people[Math.floor(random() * people.length)]!
  const replies = new Map<string, Outcome>()
  const lanes = Array.from({ length: 20 }, async (_, lane) => {
    for (let i = 0; i < count / 20; i++) {
      const requestId = `${name}-${lane}-${i}`
      const input = { from: someone(), to: someone(), cents: Math.floor(random() * 1_200) }
      const { status, value, reason } = (await engine.submit('pay', input as never, { requestId })) as never
      replies.set(requestId, { status, ...(reason ? { reason } : { value }) } as never)
    }
  })
  await Promise.all(lanes)
  await quiet(engine)
  return replies
}

/** Waits until all timers have gone off. */
async function quiet(engine: Engine<App>): Promise<void> {
  while (engine.stats().nextTimerAt !== undefined) await new Promise(setImmediate)
  await engine.idle()
}

for (const partitions of [1, 4, 16]) {
  test(`the same code derives the same again (${partitions} partitions)`, async () => {
    const code = await bank({ statement: 'paid' })
    const { open } = house(partitions)
    const engine = await open(code)
    await load(engine, 'one', 400)
    await engine.reprocessing.start({ app: code }, { again: true })
    // The candidate follows while more records arrive.
    await load(engine, 'two', 400)
    const diff = await engine.reprocessing.diff()
    assert.equal(diff.differences, 0, JSON.stringify(diff))
    await load(engine, 'three', 200)
    assert.equal((await engine.reprocessing.diff()).differences, 0)
    await engine.close()
  })

  for (const [what, variant] of [
    ['takes a fee', { fee: 3 }],
    ['refuses more', { most: 500 }],
    ['emits by a detour', { detour: true }],
    ['has other keys', { suffix: 'x' }],
  ] as const) {
    test(`code that ${what}: a promotion equals a derivation from scratch, and a promotion back restores the state (${partitions} partitions)`, async () => {
      const [old, fresh] = [await bank(), await bank({ ...variant, corrects: true })]
      const { open, data } = house(partitions)
      let engine = await open(old)
      const replies = await load(engine, 'one', 300)
      await engine.reprocessing.start({ app: fresh })
      for (const [id, reply] of await load(engine, 'two', 300)) replies.set(id, reply)
      const { sha256: diff, differences } = await engine.reprocessing.diff()
      assert.ok(differences > 0)
      const before = await engine.digest()
      const promoted = await engine.reprocessing.promote({ diff }, { requestId: 'p1', principal: 'ann' })
      assert.equal(promoted.replayed, false)
      assert.deepEqual(await engine.reprocessing.promote({ diff }, { requestId: 'p1', principal: 'ann' }), {
        ...promoted,
        replayed: true,
      })
      assert.equal(engine.stats().generation, 1)
      const digest = await engine.digest()
      assert.notEqual(digest, before)
      // First outcomes stand, whatever the new code derives.
      for (const [requestId, reply] of replies) {
        const story = (await engine.story(requestId))!
        assert.deepEqual(story.outcome, reply, requestId)
      }
      await engine.close()

      // Derive everything again from the log alone.
      const anew = await createEngine({
        app: fresh,
        data: { ...memoryStorage({ partitions }), log: data.log },
        report: () => {},
        handlers: {} as never,
      })
      assert.equal(await anew.digest(), digest)
      await anew.close()

      // Promote the old generation again.
      engine = await open(fresh)
      assert.equal((await engine.reprocessing.status())?.wasLive, true)
      assert.equal(await engine.digest(), digest)
      const back = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff: back.sha256 }, { requestId: 'p2' })
      assert.equal(await engine.digest(), before)
      for (const [requestId, reply] of replies) {
        assert.deepEqual((await engine.story(requestId))!.outcome, reply, requestId)
      }
      await load(engine, 'three', 100)
      const last = await engine.digest()
      assert.deepEqual(
        (await engine.reprocessing.history()).flatMap((fact) =>
          fact.type === 'promotion' ? [[fact.generation, fact.principal]] : [],
        ),
        [
          [1, 'ann'],
          [0, ''],
        ],
      )
      await engine.close()
      const bare = await createEngine({
        app: old,
        data: { ...memoryStorage({ partitions }), log: data.log },
        report: () => {},
        handlers: {} as never,
      })
      assert.equal(await bare.digest(), last)
      await bare.close()
    })
  }
}

/** Promotes code, and waits until its effects are delivered. */
async function promoted(engine: Engine<App>, code: AppBundle, requestId: string): Promise<void> {
  await engine.reprocessing.start({ app: code })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId })
  await delivered(engine)
}

async function delivered(engine: Engine<App>): Promise<void> {
  while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
}

for (const [what, before, after, texts] of [
  ['asks for the same', 'paid', 'paid', []],
  ['asks for what is new', 'none', 'paid', ['a1: paid 5', 'b1: paid 10']],
  ['asks for something else', 'paid', 'paid a lot', ['a1: paid a lot 5', 'b1: paid a lot 10']],
  ['asks for nothing', 'paid', 'none', []],
] as const) {
  for (const partitions of [1, 4]) {
    test(`code that ${what} delivers each new effect once, and the promotion back delivers none (${partitions} partitions)`, async () => {
      const [old, fresh] = [await bank({ statement: before }), await bank({ statement: after, fee: 1 })]
      const { open, sent } = house(partitions)
      let engine = await open(old)
      for (const [from, cents] of [
        ['a1', 5],
        ['b1', 10],
        ['c1', 11],
      ] as const) {
        await engine.submit('pay', { from, to: 'd1', cents } as never, { requestId: `${from}-${cents}` })
      }
      await delivered(engine)
      const first = sent.splice(0)
      assert.equal(first.length, before === 'none' ? 0 : 2)
      await promoted(engine, fresh, 'p1')
      assert.deepEqual(sent.map((line) => line.slice(37)).sort(), texts)
      const ids = new Set([...first, ...sent].map((line) => line.slice(0, 36)))
      assert.equal(ids.size, first.length + sent.length, 'an id was sent twice')
      sent.splice(0)
      await engine.close()
      engine = await open(fresh)
      await delivered(engine)
      const { sha256: diff } = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff }, { requestId: 'p2' })
      await delivered(engine)
      assert.deepEqual(sent, [])
      await engine.close()
    })
  }
}

test('the app gets a correction for a dropped effect and for a changed outcome', async () => {
  const [old, fresh] = [await bank({ statement: 'paid' }), await bank({ most: 8, corrects: true })]
  const { open, sent } = house(4)
  const engine = await open(old)
  for (const cents of [5, 10]) {
    await engine.submit('pay', { from: 'a1', to: 'b1', cents } as never, { requestId: `r${cents}` })
  }
  await delivered(engine)
  sent.splice(0)
  await promoted(engine, fresh, 'p1')
  const input = (cents: number) =>
    JSON.stringify({ input: { to: 'a1', text: `paid ${cents}` }, state: 'done' })
  assert.deepEqual(sent.map((line) => line.slice(37)).sort(), [
    `a1: not ${input(10)}`,
    `a1: not ${input(5)}`,
    'a1: sorry: accepted → rejected',
  ])
  // An apology is not an effect that new code would have to ask for again.
  sent.splice(0)
  await engine.reprocessing.discard()
  await promoted(engine, await bank({ most: 8, corrects: true, fee: 0, detour: true }), 'p2')
  assert.deepEqual(sent, [])
  await engine.close()
})

test('an effect that is pending at a promotion keeps its id, and no other effect gets that id', async () => {
  const [old, fresh] = [await bank({ statement: 'paid' }), await bank({ statement: 'paid a lot' })]
  const { open, sent } = house(1)
  // The receiver is down.
  let engine = await open(old, { handlers: undefined })
  await engine.submit('pay', { from: 'a1', to: 'b1', cents: 5 } as never, { requestId: 'r1' })
  const [asked] = await engine.effects.list({ state: 'pending' })
  await engine.reprocessing.start({ app: fresh })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p1' })
  await engine.close()
  engine = await open(fresh)
  await delivered(engine)
  // An attempt may have arrived, so the id is used up.
  assert.deepEqual(
    sent.map((line) => line.slice(37)),
    ['a1: paid a lot 5'],
  )
  assert.ok(!sent[0]!.startsWith(asked!.id))
  assert.equal((await engine.effects.get(asked!.id))?.state, 'dead')
  await engine.close()
})

test('requests are decided while a diff is made, and are not part of it', async () => {
  const [old, fresh] = [await bank(), await bank({ fee: 1 })]
  const { open } = house(4)
  const engine = await open(old)
  const order: string[] = []
  const pay = (from: string, requestId: string) =>
    engine.submit('pay', { from, to: from, cents: 1 } as never, { requestId })
  await Promise.all(Array.from({ length: 2_000 }, (_, i) => pay(`p${i}`, `r${i}`)))
  await quiet(engine)
  await engine.reprocessing.start({ app: fresh })
  const expected = await engine.reprocessing.diff()
  let sent: Promise<unknown> | undefined
  const diff = engine.reprocessing.diff({
    each() {
      sent ??= pay('p0', 'meanwhile').then(() => order.push('decided'))
    },
  })
  const made = await diff
  order.push('compared')
  await sent
  assert.deepEqual(order, ['decided', 'compared'])
  assert.deepEqual(made, expected)
  assert.notEqual((await engine.reprocessing.diff()).sha256, expected.sha256)
  await engine.close()
})

test('an engine closes although a diff is being made', async () => {
  const [old, fresh] = [await bank(), await bank({ fee: 1 })]
  const { open } = house(1)
  const engine = await open(old)
  const pays = Array.from({ length: 2_000 }, (_, i) =>
    engine.submit('pay', { from: `p${i}`, to: `p${i}`, cents: 1 } as never, { requestId: `r${i}` }),
  )
  await Promise.all(pays)
  await quiet(engine)
  await engine.reprocessing.start({ app: fresh })
  let closing: Promise<void> | undefined
  let lines = 0
  const diff = engine.reprocessing.diff({
    each() {
      lines++
      closing ??= engine.close()
    },
  })
  await assert.rejects(diff, { code: 'engine-closed' })
  await closing
  assert.ok(lines < 4_000)
})
