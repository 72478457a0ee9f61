/**
 * The latency of requests that arrive at a steady rate, whether or not earlier ones are answered, with
 * checkpoints, pruning and audit at work. The rate is a part of saturation: the throughput at 1,024 in
 * flight, measured first. A latency counts from the moment that the request was due, so that a pause delays
 * all that arrive in it.
 */
import { createEngine } from 'hence'
import type app from './app.ts'
import { BareLoop } from './bare-loop.ts'
import { drive } from './drive.ts'
import { Histogram } from './histogram.ts'
import { reportToParent } from './parent.ts'
import { bytesOf, payment } from './payment.ts'
import { processorMicros } from './processor.ts'

export interface Load {
  /** Requests per second. */
  readonly saturation: number
  /** By parts of saturation. */
  readonly steps: readonly AtRate[]
  readonly half: AtRate
  /** In every second of that; `at` is its end. */
  readonly seconds: readonly (Quantiles & { readonly at: number })[]
  /** Whether the first request is forgotten: a run of at least a quarter of a minute gets that far. */
  readonly hasPruned: boolean
  /** The bare loop at that rate, right after it: what of these latencies is the disk's. */
  readonly bare: AtRate
}

export interface Quantiles {
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

export interface AtRate extends Quantiles {
  /** How many requests arrived in a second, and how many were answered. */
  readonly rate: number
  readonly perSecond: number
  readonly processorMicros: number
}

/** The log's clock runs this much faster, so that what was sent minutes ago is forgotten within seconds. */
const haste = 60

const [data, warmUpText, stepSecondsText, secondsText] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
]
const begun = Date.now()
const now = () => begun + (Date.now() - begun) * haste
const engine = await createEngine<typeof app>({
  app: import.meta.resolve('./app.ts'),
  data,
  audit: true,
  windowMs: 60_000,
  clock: {
    now,
    elapsed: () => performance.now() * haste,
    // Recurring work comes as often as with the usual clock.
    alarm(time, ring) {
      const timer = setTimeout(ring, Math.max(0, time - now())).unref()
      return () => clearTimeout(timer)
    },
  },
})
let made = 0
let first = ''
const submit = async () => {
  const { requestId, input } = payment(made++, now())
  first ||= requestId
  const { status } = await engine.submit('pay', input, { requestId })
  if (status !== 'accepted') throw new Error(`A payment was ${status}.`)
}
const warmUp = Number(warmUpText)
await drive(1_024, warmUp, submit)
const saturation = (await drive(1_024, warmUp, submit)).perSecond

const steps: AtRate[] = []
for (const part of [0.1, 0.25, 0.5, 0.75, 0.9])
  steps.push((await at(part * saturation, Number(stepSecondsText))).all)
const { all: half, seconds } = await at(saturation / 2, Number(secondsText))
const hasPruned = (await engine.story(first)) === undefined
await engine.close()
const loop = await BareLoop.open(data)
const { all: bare } = await at(saturation / 2, Number(secondsText) / 3, () => {
  const wish = payment(made++, now())
  return loop.submit(wish, bytesOf(wish))
})
await loop.close()
const load: Load = { saturation, steps, half, seconds, hasPruned, bare }
reportToParent(load)

async function at(rate: number, forSeconds: number, send: () => Promise<unknown> = submit) {
  const total = Math.ceil(rate * forSeconds)
  const whole = new Histogram()
  const seconds: Load['seconds'][number][] = []
  let second = new Histogram()
  let [sent, answered] = [0, 0]
  const processorBefore = processorMicros()
  const startedAt = performance.now()
  await new Promise<void>((resolve, reject) => {
    const one = async (dueAt: number) => {
      await send()
      const ms = performance.now() - dueAt
      whole.add(ms)
      second.add(ms)
      if (++answered === total) resolve()
    }
    const arrive = () => {
      const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1000) * rate))
      while (sent < due) one(startedAt + (sent++ / rate) * 1000).catch(reject)
      const passed = (performance.now() - startedAt) / 1000
      if (passed >= seconds.length + 1 && second.count > 0) {
        seconds.push({ at: seconds.length + 1, ...second.quantiles() })
        second = new Histogram()
      }
      if (sent < total) setTimeout(arrive, 1)
    }
    arrive()
  })
  const all: AtRate = {
    rate,
    perSecond: total / ((performance.now() - startedAt) / 1000),
    processorMicros: (processorMicros() - processorBefore) / total,
    ...whole.quantiles(),
  }
  return { all, seconds: seconds.length > 0 ? seconds : [{ at: forSeconds, ...whole.quantiles() }] }
}
