/** One line of what was measured. */
export interface Result {
  readonly what: string
  readonly figure: number
  readonly unit: 'requests/s' | 'records/s' | 'rows/s' | 'MB/s' | 's' | 'MiB' | '×'
  /** By how many times it is faster than what it is measured against, 1 being the same. */
  readonly ratio?: number
  /** Latency in milliseconds: of half of the requests at most, and of 99 in 100. */
  readonly p50?: number
  readonly p99?: number
  readonly goal?: { readonly text: string; readonly met: boolean }
  /** What else must be known to judge the figure. */
  readonly note?: string
}

/** What a part of the bench is given. */
export interface Bench {
  /** An empty directory on the disk that is measured. */
  readonly directory: string
  /** Few and short rounds: for a look whether the bench works, not for figures. */
  readonly quick: boolean
  progress(line: string): void
}

export function median(numbers: Iterable<number>): number {
  return quantile(numbers, 0.5)
}

/** The value that a part of the numbers does not exceed. */
export function quantile(numbers: Iterable<number>, part: number): number {
  const sorted = Float64Array.from(numbers).sort()
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN
}
