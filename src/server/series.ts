import { jsonAnswer } from './answer.ts'
import { list, object, time } from './json-schema.ts'
import type { Metrics } from './metrics.ts'
import { choice } from './parameter.ts'
import { type Route, route } from './route.ts'
import type { Serving } from './serving.ts'

/** The steps of the series, and how many of each are kept: five minutes and a day, together 100 kB. */
const steps = { second: { everyMs: 1_000, kept: 300 }, minute: { everyMs: 60_000, kept: 1_440 } } as const
const outcomes = ['accepted', 'rejected', 'failed', 'replayed'] as const

interface Counters {
  readonly replies: Readonly<Record<(typeof outcomes)[number], number>>
  readonly submits: Metrics['submits']
}

/**
 * The answer of `GET /series`: columns of equal length, the oldest first. Counts are those of a step that
 * ends at `at`; durations are the upper bounds of their buckets in milliseconds, null without a request.
 */
export type SeriesView = { readonly everyMs: number; readonly at: readonly number[] } & Readonly<
  Record<(typeof outcomes)[number], readonly number[]>
> &
  Readonly<Record<'p50Ms' | 'p99Ms', readonly (number | null)[]>>

/** One series in a ring of numbers, which takes no more memory however long the server runs. */
class Series {
  readonly #everyMs: number
  readonly #rows: Float64Array
  #count = 0
  #before: Counters
  /** When the present step ends, in milliseconds since 1970. */
  #end: number

  constructor({ everyMs, kept }: (typeof steps)[keyof typeof steps], now: number, counters: Counters) {
    this.#everyMs = everyMs
    this.#rows = new Float64Array(kept * columns)
    this.#before = counters
    this.#end = now + everyMs
  }

  /** Ends the steps that are over: all that was counted so far belongs to the first of them. */
  reach(now: number, counters: () => Counters): void {
    const over = Math.floor((now - this.#end) / this.#everyMs) + 1
    if (over <= 0) {
      // A clock that was set back begins anew.
      if (this.#end - now > this.#everyMs) this.#end = now + this.#everyMs
      return
    }
    const counted = counters()
    this.#add(counted)
    // The others had no request; the oldest of them may be beyond what is kept.
    const idle = Math.min(over - 1, this.#rows.length / columns)
    this.#end += (over - 1 - idle) * this.#everyMs
    for (let step = 0; step < idle; step++) this.#add(counted)
  }

  #add(now: Counters): void {
    const { replies, submits } = this.#before
    this.#before = now
    const counts = now.submits.counts.map((n, i) => n - submits.counts[i]!)
    const row = [this.#end, ...outcomes.map((name) => now.replies[name] - replies[name])]
    const durations = [0.5, 0.99].map((share) => quantile(now.submits.bounds, counts, share))
    this.#rows.set([...row, ...durations], (this.#count++ * columns) % this.#rows.length)
    this.#end += this.#everyMs
  }

  get view(): SeriesView {
    const kept = this.#rows.length / columns
    const first = Math.max(0, this.#count - kept)
    const column = (n: number) =>
      Array.from({ length: this.#count - first }, (_, i) => this.#rows[((first + i) % kept) * columns + n]!)
    const [at, accepted, rejected, failed, replayed, p50Ms, p99Ms] = Array.from({ length: columns }, (_, n) =>
      column(n),
    ) as [number[], number[], number[], number[], number[], number[], number[]]
    const known = (ms: readonly number[]) => ms.map((each) => (Number.isNaN(each) ? null : each))
    return {
      everyMs: this.#everyMs,
      ...{ at, accepted, rejected, failed, replayed },
      p50Ms: known(p50Ms),
      p99Ms: known(p99Ms),
    }
  }
}

const columns = 7

/** @returns milliseconds; beyond the last bound, that bound; NaN without any */
function quantile(bounds: readonly number[], counts: readonly number[], share: number): number {
  const total = counts.reduce((sum, n) => sum + n, 0)
  if (total === 0) return Number.NaN
  let sum = 0
  const found = counts.findIndex((n) => {
    sum += n
    return sum >= total * share
  })
  return bounds[Math.min(found, bounds.length - 1)]! * 1_000
}

/** The replies of a standby, which has none. */
const noReplies = { accepted: 0, rejected: 0, failed: 0, replayed: 0 }

export function seriesRoute({ engine, standby, clock, closing }: Serving, metrics: Metrics): Route {
  const repliesNow = () => (standby ? noReplies : engine.stats().replies)
  const counters = (): Counters => ({ replies: repliesNow(), submits: metrics.submits })
  const now = clock.now()
  const second = new Series(steps.second, now, counters())
  const minute = new Series(steps.minute, now, counters())
  const reach = () => {
    for (const each of [second, minute]) each.reach(clock.now(), counters)
  }
  // Steps end when a request arrives, and while a long batch goes on.
  const ticking = setInterval(reach, steps.second.everyMs).unref()
  closing.addEventListener('abort', () => clearInterval(ticking))
  metrics.arriving = reach
  const counts = list({ type: 'integer', minimum: 0 })
  const durations = list({ type: ['number', 'null'], minimum: 0 })
  return route('GET /series', 'operate', 'series', 'Requests and durations over time, by second or minute', {
    query: { every: choice(['second', 'minute'], 'second', 'The last five minutes, or the last day.') },
    json: object({
      everyMs: { type: 'integer' },
      at: list(time),
      ...Object.fromEntries(outcomes.map((name) => [name, counts])),
      p50Ms: durations,
      p99Ms: durations,
    }),
    handle: ({ request, query: { every } }) =>
      jsonAnswer(request, (every === 'second' ? second : minute).view),
  })
}
