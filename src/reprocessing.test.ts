import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { randomFrom } from '../test/random.ts'
import { type App, app, createEngine, type Engine, effect, type Outcome, reject, scopes } from './index.ts'
import { memoryStorage } from './testing/index.ts'

const [account, till] = scopes('account', 'till')

interface Variant {
  /** Takes so many cents for each payment. */
  readonly fee?: number
  /** Payments of more than this are refused. */
  readonly most?: number
  /** Payments go by the till of the payer's first letter, and not directly. */
  readonly detour?: boolean
  /** Accounts are kept under other keys. */
  readonly rename?: (name: string) => string
  /** What a statement says. */
  readonly statement?: 'none' | 'paid' | 'paid a lot'
  readonly corrects?: boolean
  readonly indexed?: boolean
}

const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })

/** A bank that moves money between accounts of all partitions, in a version. */
function bank(variant: Variant = {}): App {
  const {
    fee = 0,
    most = 1_000,
    detour = false,
    rename = (name: string) => name,
    statement = 'none',
  } = variant
  const accounts = account.table('accounts', {
    value: z.object({ cents: z.int(), moves: z.int() }),
    ...(variant.indexed && { indexes: { byCents: ['cents'] } }),
  })
  const tills = till.table('tills', { value: z.object({ count: z.int() }) })
  const paid = account.event('paid', {
    data: z.object({ to: z.string(), cents: z.int() }),
    key: ({ to }) => to,
  })
  const passed = till.event('passed', {
    data: z.object({ till: z.string(), to: z.string(), cents: z.int() }),
    key: (data) => data.till,
  })
  const late = account.event('late', { data: z.object({ to: z.string() }), key: ({ to }) => to })
  const pay = account.request('pay', {
    input: z.object({ from: z.string(), to: z.string(), cents: z.int() }),
    key: ({ from }) => rename(from),
    derive(tx, { from, to, cents }) {
      if (cents > most) return reject('too-much')
      const { cents: had, moves } = tx.get(accounts) ?? { cents: 0, moves: 0 }
      tx.put(accounts, { cents: had - cents - fee, moves: moves + 1 })
      if (detour) tx.emit(passed, { till: from[0]!, to: rename(to), cents })
      else tx.emit(paid, { to: rename(to), cents })
      if (cents % 7 === 0) tx.schedule(late, { to: rename(from) }, { at: tx.now + 5, key: String(cents) })
      if (statement !== 'none' && cents % 5 === 0)
        tx.effect(letter, { to: from, text: `${statement} ${cents}` })
      return { left: had - cents - fee }
    },
  })
  const arrives = account.on(paid, (tx, { cents }) => {
    const { cents: had, moves } = tx.get(accounts) ?? { cents: 0, moves: 0 }
    tx.put(accounts, { cents: had + cents, moves: moves * 3 + 1 })
  })
  const passes = till.on(passed, (tx, { to, cents }) => {
    tx.put(tills, { count: (tx.get(tills)?.count ?? 0) + 1 })
    tx.emit(paid, { to, cents })
  })
  const isLate = account.on(late, (tx) => {
    const { cents, moves } = tx.get(accounts)!
    tx.put(accounts, { cents, moves: moves + 1_000 })
  })
  const sorry = account.correct((tx, correction) => {
    if (correction.kind === 'outcome')
      tx.effect(letter, {
        to: tx.key,
        text: `sorry: ${correction.before.status} → ${correction.after.status}`,
      })
    else if (correction.kind === 'effect')
      tx.effect(letter, { to: tx.key, text: `not ${JSON.stringify(correction.before)}` })
  })
  return app('bank', {
    requests: [pay],
    tables: [accounts, tills],
    reactions: [arrives, passes, isLate, ...(variant.corrects ? [sorry] : [])],
    effects: [letter],
  }) as App
}

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
