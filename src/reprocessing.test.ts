import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bank } from '../test/bank-versions.ts'
import { randomFrom } from '../test/random.ts'
import { type App, createEngine, type Engine, type Outcome } from './index.ts'
import { memoryStorage } from './testing/index.ts'

type Bank = ReturnType<typeof bank>

/** Engines one after the other over one storage, which take what handlers are given. */
function house(partitions: number, versions: readonly Bank[]) {
  const data = memoryStorage({ partitions })
  const sent: string[] = []
  return {
    data,
    sent,
    open(code: Bank, options: object = {}): Promise<Engine<App>> {
      return createEngine({
        app: code,
        earlier: versions,
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

/** Sends payments, many at a time, and gives the replies by request id. */
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
    const code = bank({ statement: 'paid' })
    const { open } = house(partitions, [])
    const engine = await open(code)
    await load(engine, 'one', 400)
    await engine.reprocessing.start({ app: code }, { again: true })
    // It follows while more comes.
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
    ['tells others by a detour', { detour: true }],
    ['keys otherwise', { rename: (name: string) => `${name}x` }],
  ] as const) {
    test(`code that ${what}: what is promoted is what a start from nothing derives, and the way back leads back (${partitions} partitions)`, async () => {
      const [old, fresh] = [bank(), bank({ ...variant, corrects: true })]
      const { open, data } = house(partitions, [old, fresh])
      let engine = await open(old)
      const told = await load(engine, 'one', 300)
      await engine.reprocessing.start({ app: fresh })
      for (const [id, reply] of await load(engine, 'two', 300)) told.set(id, reply)
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
      // What was told stays told, whatever the new code makes of it.
      for (const [requestId, reply] of told) {
        const story = (await engine.story(requestId))!
        assert.deepEqual(story.outcome, reply, requestId)
      }
      await engine.close()

      // Everything but the log is lost.
      const anew = await createEngine({
        app: fresh,
        earlier: [old],
        data: { ...memoryStorage({ partitions }), log: data.log },
        report: () => {},
        handlers: {} as never,
      })
      assert.equal(await anew.digest(), digest)
      await anew.close()

      // And back.
      engine = await open(fresh)
      assert.equal(engine.reprocessing.status()?.wasLive, true)
      assert.equal(await engine.digest(), digest)
      const back = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff: back.sha256 }, { requestId: 'p2' })
      assert.equal(await engine.digest(), before)
      for (const [requestId, reply] of told) {
        assert.deepEqual((await engine.story(requestId))!.outcome, reply, requestId)
      }
      await load(engine, 'three', 100)
      const last = await engine.digest()
      assert.deepEqual(
        engine.reprocessing
          .history()
          .map((fact) => fact.type === 'promotion' && [fact.generation, fact.principal]),
        [
          [1, 'ann'],
          [0, ''],
        ],
      )
      await engine.close()
      const bare = await createEngine({
        app: old,
        earlier: [fresh],
        data: { ...memoryStorage({ partitions }), log: data.log },
        report: () => {},
        handlers: {} as never,
      })
      assert.equal(await bare.digest(), last)
      await bare.close()
    })
  }
}
