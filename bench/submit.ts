import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createEngine, type Engine } from 'hence'
import type app from './app.ts'
import { BareLoop } from './bare-loop.ts'
import { drive, type Run, summary } from './drive.ts'
import { bytesOf, type Payment, payments } from './payment.ts'
import { type Bench, median, type Result, settled } from './result.ts'

/** The bare loop and `engine.submit` in turn, with the same requests, at three numbers in flight. */
export async function submit({ directory, sized, progress, plot }: Bench): Promise<Result[]> {
  const bare = await BareLoop.open(directory)
  const data = join(directory, 'submit')
  await mkdir(data, { mode: 0o700 })
  const engine = await createEngine<typeof app>({ app: import.meta.resolve('./app.ts'), data })
  const plans = [
    { inFlight: 1, count: sized(3_000, 500, 50), rounds: sized(5, 2, 1) },
    { inFlight: 64, count: sized(50_000, 10_000, 500), rounds: sized(5, 2, 1) },
    { inFlight: 1_024, count: sized(100_000, 30_000, 2_000), rounds: sized(9, 3, 1) },
  ]
  const results: Result[] = []
  let made = 0
  const round = async (inFlight: number, count: number) => {
    const wishes = payments(made, count)
    made += count
    const floor = await driveBare(bare, inFlight, wishes)
    const bytes = inFlight === 1_024 ? [await driveBytes(bare, inFlight, wishes)] : []
    await settled(sized)
    const ours = await driveEngine(engine, inFlight, wishes)
    await settled(sized)
    return { floor, bytes, ours, ratio: ours.perSecond / floor.perSecond }
  }
  try {
    progress('submit: warming up')
    await round(1_024, sized(60_000, 20_000, 1_000))
    for (const { inFlight, count, rounds } of plans) {
      const done = []
      for (let i = 1; i <= rounds; i++) {
        const last = await round(inFlight, count)
        const { floor, ours, ratio } = last
        done.push(last)
        progress(
          `submit: ${inFlight} in flight, round ${i} of ${rounds}: bare loop ${Math.round(floor.perSecond)}/s, ` +
            `engine ${Math.round(ours.perSecond)}/s, ratio ${ratio.toFixed(2)}`,
        )
      }
      const ratio = median(done.map((each) => each.ratio))
      const bytes = done.flatMap((each) => each.bytes)
      results.push(
        { ...summary(done.map(({ floor }) => floor)), what: `bare loop, ${inFlight} in flight`, ratio: 1 },
        ...(bytes.length > 0
          ? [{ ...summary(bytes), what: `the same with ready-made bytes, ${inFlight} in flight` }]
          : []),
        {
          ...summary(done.map(({ ours }) => ours)),
          what: `engine.submit, ${inFlight} in flight`,
          ratio,
        },
      )
    }
    plot('throughput', {
      title: 'Throughput against requests in flight',
      x: { label: 'in flight', log: true },
      y: { label: 'requests/s', log: true },
      series: ['bare loop', 'engine.submit'].map((name) => ({
        name,
        points: results
          .filter(({ what }) => what.startsWith(name))
          .map(({ figure }, i) => [plans[i]!.inFlight, figure]),
      })),
    })
    const sent = payments(made, sized(100_000, 10_000, 1_000))
    await driveEngine(engine, 1_024, sent)
    for (const { inFlight, count, rounds } of plans) {
      const retries = Array.from({ length: count }, (_, i) => sent[(i * 7_919) % sent.length]!)
      const done = []
      for (let i = 0; i < rounds; i++) done.push(await driveEngine(engine, inFlight, retries))
      progress(`submit: retries, ${inFlight} in flight`)
      results.push({ ...summary(done), what: `the same id again, ${inFlight} in flight` })
    }
  } finally {
    await engine.close()
    await bare.close()
  }
  return results
}

/** The bare loop gets a request as an object, like the engine, and encodes it. */
export function driveBare(bare: BareLoop, inFlight: number, wishes: readonly Payment[]): Promise<Run> {
  return drive(inFlight, wishes.length, (i) => bare.submit(wishes[i]!, bytesOf(wishes[i]!)))
}

/** The bare loop gets encoded requests: the rest is the disk, and a promise for each request. */
function driveBytes(bare: BareLoop, inFlight: number, wishes: readonly Payment[]): Promise<Run> {
  const ready = wishes.map(bytesOf)
  return drive(inFlight, wishes.length, (i) => bare.submit(wishes[i]!, ready[i]!))
}

function driveEngine(engine: Engine<typeof app>, inFlight: number, wishes: readonly Payment[]): Promise<Run> {
  return drive(
    inFlight,
    wishes.length,
    (i) => {
      const { input, requestId } = wishes[i]!
      return engine.submit('pay', input, { requestId })
    },
    ({ status }) => {
      if (status !== 'accepted') throw new Error(`A payment was ${status}.`)
    },
  )
}
