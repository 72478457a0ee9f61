import { jsonAnswer } from './answer.ts'
import { count, list, object, time } from './json-schema.ts'
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

/** The answer of `GET /series`: columns of equal length, the oldest first; see docs/reference/http.md. */
export type SeriesView = { readonly everyMs: number; readonly at: readonly number[] } & Readonly<
  Record<(typeof outcomes)[number], readonly number[]>
> &
  Readonly<Record<'p50Ms' | 'p99Ms', readonly (number | null)[]>>

/** One series in a ring of numbers, which takes no more memory however long the server runs. */
function seriesOf({ everyMs, kept }: (typeof steps)[keyof typeof steps], now: number, counters: Counters) {
  const rows = new Float64Array(kept * columns)
  let count = 0
  let before = counters
  /** When the present step ends, in milliseconds since 1970. */
  let end = now + everyMs

  const add = (now: Counters) => {
    const { replies, submits } = before
    before = now
    const counts = now.submits.counts.map((n, i) => n - submits.counts[i]!)
    const row = [end, ...outcomes.map((name) => now.replies[name] - replies[name])]
    const durations = [0.5, 0.99].map((share) => quantile(now.submits.bounds, counts, share))
    rows.set([...row, ...durations], (count++ * columns) % rows.length)
    end += everyMs
  }

  return {
    /** Ends the steps that are over: all that was counted so far belongs to the first of them. */
    reach(now: number, counters: () => Counters): void {
      const over = Math.floor((now - end) / everyMs) + 1
      if (over <= 0) {
        // A clock that was set back begins anew.
        if (end - now > everyMs) end = now + everyMs
        return
      }
      const counted = counters()
      add(counted)
      // The others had no request; the oldest of them may be beyond what is kept.
      const idle = Math.min(over - 1, kept)
      end += (over - 1 - idle) * everyMs
      for (let step = 0; step < idle; step++) add(counted)
    },
    get view(): SeriesView {
      const first = Math.max(0, count - kept)
      const column = (n: number) =>
        Array.from({ length: count - first }, (_, i) => rows[((first + i) % kept) * columns + n]!)
      const known = (n: number) => column(n).map((ms) => (Number.isNaN(ms) ? null : ms))
      const counts = outcomes.map((name, i) => [name, column(1 + i)])
      return { everyMs, at: column(0), ...Object.fromEntries(counts), p50Ms: known(5), p99Ms: known(6) }
    },
  }
}

/** Its end, the outcomes and two durations. */
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
  const second = seriesOf(steps.second, now, counters())
  const minute = seriesOf(steps.minute, now, counters())
  const reach = () => {
    for (const each of [second, minute]) each.reach(clock.now(), counters)
  }
  // Steps end when a request arrives, and while a long batch goes on.
  const ticking = setInterval(reach, steps.second.everyMs).unref()
  closing.addEventListener('abort', () => clearInterval(ticking))
  metrics.arriving = reach
  const counts = list(count)
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
