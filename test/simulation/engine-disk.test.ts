import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Engine, HenceError, type Reply } from 'hence'
import { SimulatedMachine } from '../../src/testing/simulated-machine.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import type * as made from '../faults/till.ts'
import { fullAt } from '../faults/till.ts'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'

const till = await appsOf<typeof made>(import.meta.resolve('../faults/till.ts')).default()

// The whole engine on a disk that fails, crashes, and loses everything that was not synced, from one seed. A
// ledger keeps the requests and the replies: nothing acknowledged is lost, nothing happens twice, every
// retry gets the stored outcome, and the tables follow from the log.

const { runs, isSample } = runsOf(50)

type Till = typeof made.default
type Wish = { readonly id: string } & (
  | { readonly type: 'pay'; readonly input: { till: string; town: string; cents: number } }
  | { readonly type: 'empty'; readonly input: { till: string } }
)

class World {
  readonly random: () => number
  readonly failing: number
  readonly machine: SimulatedMachine
  reliable = true
  now = 1_790_000_000_000
  alarms: string[] = []

  constructor(seed: number) {
    this.random = randomFrom(seed)
    const partitions = 1 + this.below(4)
    this.failing = this.random() < 0.5 ? 0 : 0.01
    this.machine = new SimulatedMachine({
      random: this.random,
      partitions,
      segmentBytes: 3_000,
      fault: () => (!this.reliable && this.random() < this.failing ? 'fail' : undefined),
    })
  }

  below(n: number): number {
    return Math.floor(this.random() * n)
  }

  async open(): Promise<Engine<Till>> {
    const process = this.machine.start()
    // Log time that the log itself takes goes back as often as forward.
    const data = await process.storage({ now: () => (this.now += this.below(2_001) - 1_000) })
    return createEngine({
      app: till,
      data,
      checkpointRows: 1 + this.below(30),
      clock: { now: () => this.now },
      report: ({ level, code, message }) => {
        // Some appends fail in a row.
        if (level === 'alarm' && code !== 'writes-held-up') this.alarms.push(`${code}: ${message}`)
      },
    })
  }
}

async function live(seed: number) {
  const world = new World(seed)
  const wishes = new Map<string, Wish>()
  const replies = new Map<string, Reply>()
  const counts = { lives: 0, wishes: 0, again: 0, died: 0 }
  const broken: unknown[] = []

  const newWish = (): Wish => {
    const id = `wish-${counts.wishes++}`
    const name = `till ${world.below(6)}`
    const wish: Wish =
      world.random() < 0.05
        ? { id, type: 'empty', input: { till: name } }
        : {
            id,
            type: 'pay',
            input: { till: name, town: `town ${world.below(5)}`, cents: 1 + world.below(300) },
          }
    wishes.set(id, wish)
    return wish
  }
  const record = (reply: Reply) => {
    const { replayed: _, ...outcome } = reply
    const before = replies.get(reply.requestId)
    if (before === undefined) replies.set(reply.requestId, outcome as Reply)
    else {
      assert.deepEqual(outcome, before, `request ${reply.requestId} got another outcome`)
      counts.again++
    }
  }
  const submit = (engine: Engine<Till>, { id, type, input }: Wish) =>
    engine.submit(type, input as never, { requestId: id }).then(record, (error) => {
      if (!(error instanceof HenceError) || error.advice !== 'retry') throw error
    })
  /** Waits for turns of the event loop. */
  const turns = async (count: number) => {
    for (let i = 0; i < count; i++) await new Promise(setImmediate)
  }

  const lives = 2 + world.below(6)
  for (let life = 0; life < lives; life++) {
    counts.lives++
    world.reliable = true
    world.machine.dieAfter(1 + world.below(world.random() < 0.3 ? 60 : 500))
    try {
      const engine = await openUnlessItDies(world)
      if (engine !== undefined) {
        world.reliable = false
        const open = [...wishes.values()].filter(({ id }) => !replies.has(id))
        const old = [...replies.keys()].filter(() => world.random() < 0.1).map((id) => wishes.get(id)!)
        const send = (wish: Wish) => void submit(engine, wish).catch((error) => broken.push(error))
        for (const wish of [...open, ...old]) send(wish)
        for (let i = 0; i < 300 && !world.machine.isDead; i++) {
          if (wishes.size - replies.size < 40) send(newWish())
          if (world.random() < 0.3) await turns(world.below(3))
        }
        for (let i = 0; i < 2_000 && !world.machine.isDead && replies.size < wishes.size; i++) await turns(1)
      }
    } catch (error) {
      if (!world.machine.isDead) throw error
    }
    if (broken.length > 0) throw broken[0]
    assert.deepEqual(world.alarms, [])
    if (world.machine.isDead) counts.died++
    world.machine.end({ losePower: world.below(3) > 0 })
  }

  world.reliable = true
  const engine = await world.open()
  for (const wish of wishes.values()) await submit(engine, wish)
  await engine.idle()
  assert.deepEqual(world.alarms, [])
  assert.equal(replies.size, wishes.size)
  const value = (rows: readonly { key: readonly (string | number)[]; value: unknown }[]) =>
    Object.fromEntries(rows.map((row) => [row.key[0], row.value]))
  assert.deepEqual(
    { tills: value(await engine.scan('tills')), towns: value(await engine.scan('towns')) },
    expected(wishes, replies),
  )
  const digest = await engine.digest()
  await engine.close()
  world.machine.forgetState()
  const again = await world.open()
  assert.equal(await again.digest(), digest, 'a derivation from offset 0 has another digest')
  await again.close()
  return counts
}

/** Opens an engine; undefined if the process dies first. */
async function openUnlessItDies(world: World): Promise<Engine<Till> | undefined> {
  let isOpening = true
  const dies = async () => {
    while (isOpening && !world.machine.isDead) await new Promise(setImmediate)
    return undefined
  }
  try {
    return await Promise.race([world.open(), dies()])
  } finally {
    isOpening = false
  }
}

/** The tables that follow from the replies alone, each outcome counted once. */
function expected(wishes: ReadonlyMap<string, Wish>, replies: ReadonlyMap<string, Reply>) {
  const tills: Record<string, { cents: number; payments: number }> = {}
  const towns: Record<string, { cents: number; payments: number }> = {}
  const numbers = new Set<string>()
  for (const [id, reply] of replies) {
    const wish = wishes.get(id)!
    if (reply.status === 'rejected') continue
    assert.ok(reply.status === 'accepted', JSON.stringify(reply))
    tills[wish.input.till] ??= { cents: 0, payments: 0 }
    const row = tills[wish.input.till]!
    if (wish.type === 'empty') {
      row.cents -= (reply.value as { taken: number }).taken
      continue
    }
    const { payments, cents } = reply.value as { payments: number; cents: number }
    assert.ok(cents <= fullAt)
    assert.ok(!numbers.has(`${wish.input.till} ${payments}`), 'two payments have one number')
    numbers.add(`${wish.input.till} ${payments}`)
    row.cents += wish.input.cents
    row.payments++
    towns[wish.input.town] ??= { cents: 0, payments: 0 }
    towns[wish.input.town]!.cents += wish.input.cents
    towns[wish.input.town]!.payments++
  }
  return { tills, towns }
}

replayKept('engine-disk', live)

const name = crashAt('any disk operation', `an engine loses nothing that it acknowledged, ${runs} worlds`)
test(name, async (t) => {
  const sum = { lives: 0, wishes: 0, again: 0, died: 0 }
  for (const counts of await eachSeed('engine-disk', runs, live)) {
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name]
  }
  t.diagnostic(JSON.stringify(sum))
  if (!isSample) return
  assert.ok(sum.died > sum.lives / 4, 'too few processes died')
  assert.ok(sum.again > sum.wishes / 10, 'too few requests were retried')
})
