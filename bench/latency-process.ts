/**
 * How long requests take while nothing else is done, beside a plain loop that keeps a processor busy, and while everything is
 * derived again beside them, in turn.
 */
import { once } from 'node:events'
import { createEngine } from 'hence'
import app from './app.ts'
import { drive, type Run } from './drive.ts'
import { tellParent } from './parent.ts'
import { payments } from './payment.ts'
import { startBench } from './process.ts'
import { median, quantile } from './result.ts'

export interface Latencies {
  readonly inFlight: number
  readonly alone: Latency
  readonly besideLoop: Latency
  readonly beside: Latency
  /** Records derived again each second meanwhile. */
  readonly derivedPerSecond: number
}

/** In milliseconds. */
export interface Latency {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const [data, roundsText, countText] = process.argv.slice(2)
const rounds = Number(roundsText)
const module = import.meta.resolve('./app.ts')
const engine = await createEngine({ app, module, data: data! })
const { reprocessing } = engine
let made = engine.stats().applied[0]!
const send = (inFlight: number, count: number) => {
  const wishes = payments(made, count)
  made += count
  return drive(inFlight, count, (i) => engine.submit('pay', wishes[i]!.input, wishes[i]!))
}
await send(64, 20_000)
const results: Latencies[] = []
for (const [inFlight, count] of [
  [1, Number(countText) / 8],
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
    else await reprocessing.start({ module }, { again: true })
    const before = (await reprocessing.status())!.records
    const startedAt = performance.now()
    beside.push(await send(inFlight, count))
    seconds += (performance.now() - startedAt) / 1000
    const { records, state } = await reprocessing.pause()
    derived += records - before
    if (state !== 'paused') throw new Error('It should be paused.')
    // What has caught up has nothing to do any more; the next round begins anew.
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
tellParent({ results })

function latencyOf(runs: readonly Run[]): Latency {
  const all = runs.flatMap(({ latencies }) => [...latencies])
  return {
    perSecond: median(runs.map(({ perSecond }) => perSecond)),
    p50: median(all),
    p99: quantile(all, 0.99),
    max: quantile(all, 1),
  }
}
