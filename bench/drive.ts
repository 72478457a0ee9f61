import { processorMicros, threadMicros } from './processor.ts'
import { median, quantile, type Result } from './result.ts'

/** The measurements of many requests. */
export interface Run {
  readonly perSecond: number
  /** Processor time for each request, in microseconds; that of this process unless stated otherwise. */
  readonly processorMicros: number | undefined
  /** The part of it that this thread took; undefined for other processes. */
  readonly threadMicros?: number
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
  const threadBefore = threadMicros()
  const start = performance.now()
  await Promise.all(Array.from({ length: inFlight }, one))
  const perSecond = (count / (performance.now() - start)) * 1000
  return {
    perSecond,
    processorMicros: (processorMicros() - processorBefore) / count,
    threadMicros: (threadMicros() - threadBefore) / count,
    latencies,
  }
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
    p999: quantile(latencies, 0.999),
  }
}

/** The median processor time; left out where the system does not report it. */
export function medianProcessor(
  runs: readonly Partial<Pick<Run, 'processorMicros' | 'threadMicros'>>[],
): Pick<Result, 'processorMicros' | 'threadMicros'> {
  const known = runs.flatMap(({ processorMicros }) => processorMicros ?? [])
  const ofThread = runs.flatMap(({ threadMicros }) => threadMicros ?? [])
  return {
    ...(known.length > 0 && { processorMicros: median(known) }),
    ...(ofThread.length > 0 && { threadMicros: median(ofThread) }),
  }
}
