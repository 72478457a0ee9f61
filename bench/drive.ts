import { processorMicros } from './processor.ts'
import { median, quantile, type Result } from './result.ts'

/** The measurements of many requests. */
export interface Run {
  readonly perSecond: number
  /** Processor time for each request, in microseconds; that of this process unless stated otherwise. */
  readonly processorMicros: number | undefined
  /** The latency of each request, in milliseconds. */
  readonly latencies: Float64Array
}

/** Sends `count` requests, `inFlight` at a time: as soon as one ends, the next one begins. */
export async function drive<Reply>(
  inFlight: number,
  count: number,
  send: (index: number) => Promise<Reply>,
  check: (reply: Reply) => void = () => {},
): Promise<Run> {
  const latencies = new Float64Array(count)
  let next = 0
  const one = async () => {
    while (next < count) {
      const index = next++
      const at = performance.now()
      check(await send(index))
      latencies[index] = performance.now() - at
    }
  }
  const processorBefore = processorMicros()
  const start = performance.now()
  await Promise.all(Array.from({ length: inFlight }, one))
  const perSecond = (count / (performance.now() - start)) * 1000
  return { perSecond, processorMicros: (processorMicros() - processorBefore) / count, latencies }
}

/** Medians of several runs; latencies over all their requests. */
export function summary(runs: readonly Run[]): Omit<Result, 'what'> {
  const latencies = runs.flatMap((run) => [...run.latencies])
  return {
    figure: median(runs.map(({ perSecond }) => perSecond)),
    unit: 'requests/s',
    ...medianProcessor(runs),
    p50: median(latencies),
    p99: quantile(latencies, 0.99),
  }
}

/** The median processor time; left out where the system does not report it. */
export function medianProcessor(
  runs: readonly { readonly processorMicros: number | undefined }[],
): Pick<Result, 'processorMicros'> {
  const known = runs.flatMap(({ processorMicros }) => processorMicros ?? [])
  return known.length === 0 ? {} : { processorMicros: median(known) }
}
