import { setTimeout as pause } from 'node:timers/promises'
import type { Plot } from './plot.ts'

/** One line of the results. */
export interface Result {
  readonly what: string
  readonly figure: number
  readonly unit: 'requests/s' | 'records/s' | 'rows/s' | 'MB/s' | 's' | 'ms' | 'MiB' | '× the log'
  /** Processor time for each request, record, row or megabyte, in microseconds: user and system, all threads. */
  readonly processorMicros?: number
  /** The part of it that the thread of the engine takes. */
  readonly threadMicros?: number
  /** The figure divided by that of the opponent, usually the bare loop. */
  readonly ratio?: number
  /** Latency in milliseconds. */
  readonly p50?: number
  readonly p99?: number
  readonly p999?: number
  readonly note?: string
}

/** The parameters of a part of the bench. */
export interface Bench {
  /** An empty directory on the disk that is measured. */
  readonly directory: string
  /**
   * Chooses a number of requests or rounds by the size of the run. `quick` shows whether the bench works and
   * gives rough figures. `tiny` only shows whether it works; it is a test.
   */
  sized<T>(full: T, quick: T, tiny: T): T
  progress(line: string): void
  /** Keeps a plot, where a directory for plots is given. */
  plot(name: string, plot: Plot): void
  /** Says what this machine cannot measure, and why. It stands below the results too. */
  skip(what: string, why: string): void
}

/** Pauses between two runs, because the engine may still write a checkpoint after the last answer. */
export function settled(sized: Bench['sized']): Promise<void> {
  return pause(sized(300, 300, 10))
}

export function median(numbers: Iterable<number>): number {
  return quantile(numbers, 0.5)
}

/** The smallest of the numbers that this part of them does not exceed. */
export function quantile(numbers: Iterable<number>, part: number): number {
  const sorted = Float64Array.from(numbers).sort()
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN
}
