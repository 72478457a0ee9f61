/**
 * The latency of requests, in turn: alone, beside a plain loop that keeps a processor busy, and beside a
 * child process that derives everything again.
 */
import { once } from 'node:events'
import { createEngine } from 'hence'
import type app from './app.ts'
import { drive, type Run } from './drive.ts'
import { reportToParent } from './parent.ts'
import { payments } from './payment.ts'
import { startBench } from './process.ts'
import { median, quantile } from './result.ts'

export interface Latencies {
  readonly inFlight: number
  readonly alone: Latency
  readonly besideLoop: Latency
  readonly beside: Latency
  /** Records per second that were derived again meanwhile. */
  readonly derivedPerSecond: number
}

/** Latencies are in milliseconds; processor time is that of the engine's process. */
export interface Latency {
  readonly perSecond: number
  readonly processorMicros: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const [data, roundsText, countText, warmUpText] = process.argv.slice(2)
const rounds = Number(roundsText)
const module = import.meta.resolve('./app.ts')
const engine = await createEngine<typeof app>({ app: module, data: data! })
const { reprocessing } = engine
let made = engine.stats().applied[0]!
const send = (inFlight: number, count: number) => {
  const wishes = payments(made, count)
  made += count
  return drive(inFlight, count, (i) => engine.submit('pay', wishes[i]!.input, wishes[i]!))
}
await send(64, Number(warmUpText))
const results: Latencies[] = []
for (const [inFlight, count] of [
  [1, Math.ceil(Number(countText) / 8)],
  [64, Number(countText)],
] as const) {
  const alone: Run[] = []
  const besideLoop: Run[] = []
  const beside: Run[] = []
  let derived = 0
  let seconds = 0
  for (let round = 0; round < rounds; round++) {
    alone.push(await send(inFlight, count))
    const loop = startBench('busy-process.ts', [])
    await once(loop, 'message')
    besideLoop.push(await send(inFlight, count))
    loop.kill('SIGKILL')
    await once(loop, 'exit')
    if (await reprocessing.status()) await reprocessing.resume()
    else await reprocessing.start({ app: module }, { again: true })
    const before = (await reprocessing.status())!.records
    const startedAt = performance.now()
    beside.push(await send(inFlight, count))
    seconds += (performance.now() - startedAt) / 1000
    const { records, state } = await reprocessing.pause()
    derived += records - before
    if (state !== 'paused') throw new Error(`The candidate is ${state} and not paused.`)
    // A candidate that has (nearly) caught up would have nothing left to do in the next round.
    if (records * 2 > engine.stats().applied[0]!) await reprocessing.discard()
  }
  results.push({
    inFlight,
    alone: latencyOf(alone),
    besideLoop: latencyOf(besideLoop),
    beside: latencyOf(beside),
    derivedPerSecond: derived / seconds,
  })
}
await engine.close()
reportToParent({ results })

function latencyOf(runs: readonly Run[]): Latency {
  const all = runs.flatMap(({ latencies }) => [...latencies])
  return {
    perSecond: median(runs.map(({ perSecond }) => perSecond)),
    processorMicros: median(runs.map(({ processorMicros }) => processorMicros!)),
    p50: median(all),
    p99: quantile(all, 0.99),
    max: quantile(all, 1),
  }
}
