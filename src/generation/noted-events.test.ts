import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as banks from '../../test/apps/bank.ts'
import { appsOf } from '../../test/apps.ts'
import type oldWallets from '../../test/faults/wallets-old.ts'
import { derived } from '../../test/simulation/any-pace.ts'
import { type App, type AppBundle, bundleApp, createEngine, type Engine } from '../index.ts'
import { partitionOf } from '../log/partitions.ts'
import { eventIn } from '../log/record.ts'
import { HandClock } from '../testing/hand-clock.ts'
import { memoryStorage } from '../testing/index.ts'

const partitions = 2
const versions = [
  await bundleApp<typeof oldWallets>(import.meta.resolve('../../test/faults/wallets-old.ts')),
  await bundleApp<typeof oldWallets>(import.meta.resolve('../../test/faults/wallets-new.ts')),
] as const
const [payer, payee] = [0, 1].map((partition) => {
  for (let i = 0; ; i++) if (partitionOf(`w${i}`, partitions) === partition) return `w${i}`
}) as [string, string]

type Wallets = typeof oldWallets

/**
 * Makes a log by `change`, in which generation 0 is not live in the end. An event comes after the request
 * that followed its cause. Compares generation 0 as derived at once with one that notes the event while it is
 * under way, from some positions on.
 */
async function compared(
  from: number,
  change: (open: (app: AppBundle<Wallets>) => Promise<Engine<Wallets>>) => Promise<Engine<Wallets>>,
) {
  const clock = new HandClock()
  const data = memoryStorage({ partitions, clock })
  const options = { data, clock, handlers: { sorry: () => {} } as never, report: () => {} }
  const engine = await change((app) => createEngine<Wallets>({ app, ...options, onCodeChange: 'continue' }))
  clock.pass(10)
  await engine.submit('move', { from: payer, to: payee, cents: 5 }, { requestId: 'a' })
  await engine.idle()
  clock.pass(10)
  await engine.submit('move', { from: payee, to: payee, cents: 5 }, { requestId: 'b' })
  await engine.idle()
  await engine.close()

  // The same records, but the event of the first request comes after the second.
  const records: { partition: number; time: number; record: Buffer }[] = []
  for (const partition of [0, 1])
    for await (const { time, records: found } of data.log.read(partition, 0))
      for (const record of found) records.push({ partition, time, record })
  const isLate = ({ record }: { readonly record: Buffer }) => eventIn(record)?.causePartition === 0
  const again = new HandClock()
  const log = { ...memoryStorage({ partitions, clock: again }).log, id: data.log.id }
  for (const { partition, time, record } of records
    .filter((each) => !isLate(each))
    .sort((a, b) => a.time - b.time)) {
    again.jump(time - again.now())
    await log.append(partition, [record])
  }
  again.pass(10)
  const { record } = records.find(isLate)!
  const { offset, time } = await log.append(1, [record])

  const ends = [await log.end(0), await log.end(1)]
  const end = { positions: ends, lowWatermark: Number.POSITIVE_INFINITY, inFlight: [] }
  const closely = {
    positions: [ends[0]!, offset - 1],
    lowWatermark: time - 20,
    inFlight: [[], [eventIn(record)!]],
  }
  const begun = { positions: [from, from], lowWatermark: again.now() - 30, inFlight: [] }
  const atOnce = await derived(log, versions, [0], versions[0].hash, [end])
  const inSteps = await derived(log, versions, [0], versions[0].hash, [begun, closely, end])
  assert.deepEqual(inSteps.rows, atOnce.rows)
  const [row] = [...atOnce.rows].filter(([name]) => name.includes(payee))
  assert.match(row![1].changes.at(-1)!, /event moved/)
}

/** Derives a candidate of the same code, or goes on with the one there is, and makes it live. */
async function promote(engine: Engine<Wallets>, requestId: string): Promise<void> {
  if ((await engine.reprocessing.status()) === undefined)
    await engine.reprocessing.start({ app: versions[1] }, { again: true })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId })
}

test('an event that is under way when other code takes over has its place in the log', () =>
  compared(0, async (open) => {
    await (await open(versions[0])).close()
    const engine = await open(versions[1])
    await promote(engine, 'to-1')
    return engine
  }))

test('an event has its place in the log where a generation was live again for a while', () =>
  compared(3, async (open) => {
    await (await open(versions[0])).close()
    const engine = await open(versions[1])
    await promote(engine, 'to-1')
    await promote(engine, 'back-to-0')
    await promote(engine, 'to-1-again')
    return engine
  }))

test('an event that stands in the log twice has its first place, however closely a generation follows', async () => {
  const { bank } = appsOf<typeof banks>(import.meta.resolve('../../test/apps/bank.ts'))
  const [before, after] = await Promise.all([bank(), bank({ suffix: 'x' })])
  const inPartition = (name: string) => partitionOf(name, 3)
  const named = (is: (name: string) => boolean) => {
    for (let i = 0; ; i++) if (is(`w${i}`)) return `w${i}`
  }
  // By the code after, the payer's request moves to another partition, so it is derived after all records of
  // its log time. Its event has been passed by then.
  const from = named((name) => inPartition(name) === 0 && inPartition(`${name}x`) === 1)
  const to = named((name) => inPartition(name) === 2 && inPartition(`${name}x`) === 2)
  const clock = new HandClock()
  const data = memoryStorage({ partitions: 3, clock })
  const options = { app: before, data, clock, handlers: { letter: () => {} }, report: () => {} }
  const engine = (await createEngine(options as never)) as Engine<App>
  clock.pass(10)
  const time = clock.now()
  await engine.submit('pay', { from, to, cents: 1 } as never, { requestId: 'a' })
  await engine.idle()
  const positions = await Promise.all([0, 1, 2].map((partition) => data.log.end(partition)))
  clock.pass(10)
  await engine.submit('pay', { from: to, to, cents: 1 } as never, { requestId: 'b' })
  await engine.idle()
  await engine.close()
  clock.pass(10)
  const { log } = data
  const events: Buffer[] = []
  for await (const { records } of log.read(2, 0)) events.push(...records.filter(eventIn))
  await log.append(2, [events[0]!])

  const ends = await Promise.all([0, 1, 2].map((partition) => log.end(partition)))
  const end = { positions: ends, lowWatermark: Number.POSITIVE_INFINITY, inFlight: [] }
  const closely = { positions, lowWatermark: time, inFlight: [] }
  const derive = (progress: readonly (typeof end)[], random: () => number) =>
    derived(log, [before, after], [1, 0], after.hash, progress, random)
  const atOnce = await derive([end], () => 1)
  const [row] = [...atOnce.rows].filter(([name]) => name.includes(to))
  assert.match(row![1].changes[0]!, /event paid/)
  for (const random of [0, 1])
    assert.deepEqual((await derive([closely, end], () => random)).rows, atOnce.rows)
})
