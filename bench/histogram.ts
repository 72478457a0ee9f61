import type { Quantiles } from './load-process.ts'

/** Steps of 2 %, from 1 µs on: enough for an hour. */
const factor = 1.02
const least = 0.001
const steps = 1_200

/** Counts latencies in milliseconds in a bounded room; quantiles are exact to 2 %. */
export class Histogram {
  readonly #counts = new Uint32Array(steps)
  #max = 0
  count = 0

  add(ms: number): void {
    const step = Math.ceil(Math.log(Math.max(ms, least) / least) / Math.log(factor))
    this.#counts[Math.min(step, steps - 1)]!++
    this.#max = Math.max(this.#max, ms)
    this.count++
  }

  quantiles(): Quantiles {
    return { p50: this.#at(0.5), p99: this.#at(0.99), p999: this.#at(0.999), max: this.#max }
  }

  #at(part: number): number {
    let left = Math.ceil(this.count * part)
    for (const [step, count] of this.#counts.entries()) {
      left -= count
      if (left <= 0) return Math.min(least * factor ** step, this.#max)
    }
    return this.#max
  }
}
