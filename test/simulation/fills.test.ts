import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type App, createEngine, type Engine, HenceError, type Reply } from 'hence'
import type * as made from '../apps/statements.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { HandClock } from '../hand-clock.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'

// Code with more tables, and code without them, continue one after the other (`onCodeChange: 'continue'`) at
// random moments, with crashes and failing appends. A plain model counts along: each time the tables come,
// their rows are those of all requests so far.

const { bare, grown } = appsOf<typeof made>(import.meta.resolve('../apps/statements.ts'))
const { runs } = runsOf(20)

type Moment =
  | { readonly pay: number; readonly cents: number }
  | { readonly move: number; readonly to: number; readonly cents: number }
  /** The other code comes; the process crashes after so many turns. */
  | { readonly crashesAfter: number | undefined }
  | 'crash'
type World = [partitions: number, checkpointRows: number, moments: Moment[], seed: number]

const accounts = 'abcdef'.split('')
const account = fc.nat(accounts.length - 1)
const cents = fc.integer({ min: 1, max: 1_000 })
const moment: fc.Arbitrary<Moment> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ pay: account, cents }) },
  { weight: 5, arbitrary: fc.record({ move: account, to: account, cents }) },
  { weight: 3, arbitrary: fc.record({ crashesAfter: fc.option(fc.nat(400), { nil: undefined }) }) },
  { weight: 1, arbitrary: fc.constant('crash') },
)

class Account {
  cents = 0
  peak = 0
  paid = 0
  arrived = 0
  readonly entries: number[] = []

  add(cents: number): void {
    this.cents += cents
    this.peak = Math.max(this.peak, this.cents)
  }
}

async function live([partitions, checkpointRows, moments, seed]: World): Promise<void> {
  counts.worlds++
  const random = randomFrom(seed)
  const storage = new CrashingStorage({
    ...{ partitions, clock: new HandClock(), id: '0'.repeat(32), random, failing: 0.05 },
  })
  const alarms: string[] = []
  let isGrown = false
  let opened = 0
  let engine = await open()
  async function open(isBare = false): Promise<Engine<App>> {
    for (const mine = ++opened; ; ) {
      const app = await (isGrown ? grown(true) : bare())
      try {
        return (await createEngine<App>({
          ...{ app: app as never, data: storage.open(isBare), checkpointRows, onCodeChange: 'continue' },
          report: ({ level, code, message }) => level === 'alarm' && alarms.push(`${code}: ${message}`),
        })) as Engine<App>
      } catch (error) {
        const isLost =
          error instanceof HenceError && ['log-write-failed', 'control-unfinished'].includes(error.code)
        if (!isLost || mine !== opened) throw error
        counts.retries++
      }
    }
  }
  const crash = async (turns: number) => {
    counts.crashes++
    for (; turns > 0; turns--) await new Promise(setImmediate)
    storage.crash()
    engine = await open()
  }
  let sent = 0
  const send = async (type: string, input: object): Promise<Reply> => {
    for (const requestId = `r${sent++}`; ; ) {
      try {
        const reply = await engine.submit(type as never, input as never, { requestId })
        await engine.idle()
        return reply as Reply
      } catch (error) {
        if ((error as HenceError).code !== 'log-write-failed') throw error
      }
    }
  }
  const model = new Map<string, Account>()
  const the = (n: number) => {
    const name = accounts[n]!
    if (!model.has(name)) model.set(name, new Account())
    return model.get(name)!
  }
  for (const each of moments) {
    if (each === 'crash') await crash(Math.floor(random() * 12))
    else if ('pay' in each) {
      const { pay, cents } = each
      const { status } = await send('pay', { account: accounts[pay]!, cents })
      assert.equal(status, cents > 900 ? 'rejected' : 'accepted')
      if (status === 'rejected') continue
      the(pay).add(cents)
      the(pay).paid += cents
      the(pay).entries.push(cents)
    } else if ('move' in each) {
      const { move, to, cents } = each
      await send('move', { account: accounts[move]!, to: accounts[to]!, cents })
      the(move).add(-cents)
      the(to).add(cents)
      the(to).arrived += cents
    } else {
      await engine.close()
      isGrown = !isGrown
      if (isGrown) counts.filled++
      const { crashesAfter } = each
      if (crashesAfter === undefined) engine = await open()
      else {
        const opening = open()
        opening.catch(() => {})
        await crash(crashesAfter)
      }
    }
    await agree(`after ${JSON.stringify(each)}`)
  }
  const digest = await engine.digest()
  storage.crash()
  engine = await open(true)
  assert.equal(await engine.digest(), digest, 'derived again, the rows are others')
  await agree('derived again')
  assert.deepEqual(alarms, [])
  await engine.close()

  async function agree(when: string): Promise<void> {
    await engine.idle()
    const inOrder = [...model].sort(([a], [b]) => (a < b ? -1 : 1))
    const check = async (table: string, rows: readonly (readonly [key: unknown[], value: object])[]) =>
      assert.deepEqual(
        (await engine.scan(table as never)).map(({ key, value }) => [key, value]),
        rows,
        `${table} ${when}`,
      )
    await check(
      'balances',
      inOrder.map(([name, { cents }]) => [[name], { cents }]),
    )
    if (!isGrown) return
    await check(
      'entries',
      inOrder.flatMap(([name, { entries }]) =>
        entries.map((cents, i) => [[name, i + 1], { cents, unit: 'cent' }] as const),
      ),
    )
    await check(
      'totals',
      inOrder.flatMap(([name, { paid, arrived, entries }]) =>
        entries.length + arrived === 0 ? [] : [[[name], { paid, arrived }] as const],
      ),
    )
    await check(
      'peaks',
      inOrder.flatMap(([name, { peak }]) => (peak === 0 ? [] : [[[name], { cents: peak }] as const])),
    )
  }
}

const counts = { worlds: 0, filled: 0, crashes: 0, retries: 0 }

replayKept('fills', live)

const worlds = fc.asyncProperty<World>(
  fc.constantFrom(1, 2, 8),
  fc.constantFrom(1, 9, 1_000),
  fc.array(moment, { minLength: 10, maxLength: 40 }),
  fc.nat(),
  (...world) => live(world),
)

test(
  crashAt(
    ['any turn of the event loop', 'code change'],
    `new tables have the rows of the past, ${runs} worlds`,
  ),
  async (t) => {
    await checkProperty('fills', worlds, runs)
    t.diagnostic(JSON.stringify(counts))
  },
)
