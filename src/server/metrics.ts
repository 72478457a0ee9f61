import type { App } from '../app/index.ts'
import type { EngineStats, Standby } from '../engine/engine.ts'
import { plain } from '../plain-text.ts'
import type { ReprocessStatus } from '../reprocess/reprocessing.ts'
import type { ViewStatus } from '../view/views.ts'

interface CountedRoute {
  readonly method: string
  readonly path: string
}

export interface OpenThings {
  readonly streams: number
  readonly batches: number
  readonly bodyBytes: number
}

type StandbyStats = ReturnType<Standby<App>['stats']>

/** Upper bounds of the buckets of durations, in seconds. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

/** Counts requests and durations, for Prometheus (text format, version 0.0.4). */
export class Metrics {
  /** By route, then by status. */
  readonly #responses = new Map<CountedRoute, Map<number, number>>()
  readonly #durations = new Array<number>(buckets.length + 1).fill(0)
  #seconds = 0

  /** Called when a request arrives, before it is counted. */
  arriving: () => void = () => {}

  count(route: CountedRoute, status: number): void {
    const counts = this.#responses.get(route) ?? new Map<number, number>()
    counts.set(status, (counts.get(status) ?? 0) + 1)
    this.#responses.set(route, counts)
  }

  submitted(ms: number): void {
    const seconds = ms / 1000
    let i = 0
    while (i < buckets.length && seconds > buckets[i]!) i++
    this.#durations[i]!++
    this.#seconds += seconds
  }

  /**
   * How long requests took, since the start: the upper bounds of the buckets in seconds, and how many are in
   * each; the last bucket has no upper bound.
   */
  get submits(): { readonly bounds: readonly number[]; readonly counts: readonly number[] } {
    return { bounds: buckets, counts: [...this.#durations] }
  }

  /** @param stats those of an engine, or the few of a standby, which says how old its answers are */
  text(
    stats: StandbyStats & Partial<EngineStats> & { readonly ageMs?: number },
    reprocess: ReprocessStatus | undefined,
    now: number,
    open: OpenThings,
  ): string {
    const lines: string[] = []
    const metric = (name: string, kind: string, help: string, series: Iterable<[string, number]>) => {
      lines.push(`# HELP hence_${name} ${help}`, `# TYPE hence_${name} ${kind}`)
      for (const [labels, value] of series) lines.push(`hence_${name}${labels && `{${labels}}`} ${value}`)
    }
    // Without a value there is no sample: 0 would mean something else.
    const gauge = (name: string, help: string, value: number | undefined, of = '') =>
      metric(name, 'gauge', help, value === undefined ? [] : [[of, value]])
    const age = (at: number | undefined) => at && Math.max(0, (now - at) / 1000)
    const inSeconds = (ms: number | undefined) => ms && ms / 1000
    // A series is named by the route, never by the path: the parts of a path are data, without a bound.
    const responses = [...this.#responses].flatMap(([{ method, path }, counts]) =>
      [...counts].map(([status, count]): [string, number] => [
        labels({ method, route: path, status }),
        count,
      ]),
    )
    metric('http_responses_total', 'counter', 'Responses by route and status.', responses)
    lines.push(
      '# HELP hence_submit_seconds Time from a request to its outcome.',
      '# TYPE hence_submit_seconds histogram',
    )
    let sum = 0
    for (const [i, end] of [...buckets, '+Inf'].entries()) {
      sum += this.#durations[i]!
      lines.push(`hence_submit_seconds_bucket{le="${end}"} ${sum}`)
    }
    lines.push(`hence_submit_seconds_sum ${this.#seconds}`, `hence_submit_seconds_count ${sum}`)
    const replies = Object.entries(stats.replies ?? {}).map(([outcome, count]): [string, number] => [
      labels({ outcome }),
      count,
    ])
    metric(
      'replies_total',
      'counter',
      'Replies of the engine by outcome; `replayed` counts retries.',
      replies,
    )
    const applied = stats.applied.map((count, partition): [string, number] => [labels({ partition }), count])
    metric('records_applied', 'counter', 'Records applied, by partition.', applied)
    gauge('requests_in_flight', 'Requests between admission and outcome.', stats.inFlight)
    gauge('queued_bytes', 'Bytes of the requests in flight.', stats.queuedBytes)
    gauge('waiting_bytes', 'Bytes of events that wait to be written and applied.', stats.waitingBytes)
    gauge('waiting_bytes_max', 'Beyond so many, requests are refused.', stats.waitingBytesMax)
    gauge('held_bytes', 'Bytes of those events that are in memory.', stats.heldBytes)
    const unwritten = inSeconds(stats.unwrittenMs)
    gauge(
      'unwritten_seconds',
      'Age of the oldest record that is not written, an event since its cause.',
      unwritten,
    )
    const { dirtyBytes, stateCheckProgress } = stats
    gauge('dirty_bytes', 'Bytes of changed values that are not in a checkpoint yet, roughly.', dirtyBytes)
    gauge('cache_bytes', 'Bytes of saved values that are cached, roughly.', stats.cacheBytes)
    gauge('dirty_rows', 'Changed rows that are not in a checkpoint yet.', stats.dirtyRows)
    gauge('standby_age_seconds', 'How old the answers of a standby are at most.', inSeconds(stats.ageMs))
    gauge('log_age_seconds', 'Time since the last record.', age(stats.logTime))
    const effectAge = stats.inFlight === undefined ? undefined : (age(stats.oldestEffectAt) ?? 0)
    gauge('oldest_effect_age_seconds', 'Time since the oldest undelivered effect was requested.', effectAge)
    gauge('head_age_seconds', 'Time since the newest tree head was signed.', age(stats.headAt))
    const [scrubbed, rehearsed, checked] = [stats.scrubbedAt, stats.rehearsedAt, stats.stateCheckedAt].map(
      age,
    )
    gauge('scrub_age_seconds', 'Time since the scrubber last finished a pass over the whole log.', scrubbed)
    gauge(
      'rehearsal_age_seconds',
      'Time since the log was last derived again and gave the live state.',
      rehearsed,
    )
    gauge('state_check_age_seconds', 'Time since all of the stored state was last checked.', checked)
    const seen = 'How much of the stored state the check under way has seen, from 0 to 1.'
    gauge('state_check_progress', seen, stateCheckProgress)
    gauge('generation', 'The generation of derived state that is live.', stats.generation)
    const { generation = 0, records, of = 0, failures, state } = reprocess ?? {}
    const candidate = labels({ generation })
    const left = records === undefined ? undefined : of - records
    const failed = state && Number(state === 'failed')
    gauge('reprocess_records', 'Records that the candidate has derived.', records, candidate)
    gauge('reprocess_records_left', 'Records that the candidate has yet to derive.', left, candidate)
    gauge('reprocess_failures', 'Derivations of the candidate that threw.', failures, candidate)
    gauge('reprocess_failed', '1 if the candidate has failed.', failed, candidate)
    const ofViews = (name: string, help: string, value: (view: ViewStatus) => number) => {
      const samples = stats.views.map((view): [string, number] => [labels({ view: view.name }), value(view)])
      metric(name, 'gauge', help, samples)
    }
    ofViews('view_records_left', 'Records that a view has yet to fold.', ({ of, records }) => of - records)
    ofViews('view_failed', '1 if a view has stopped.', ({ state }) => Number(state === 'failed'))
    gauge('change_streams', 'Open streams of changes.', open.streams)
    gauge('batches', 'Open batches.', open.batches)
    gauge('body_bytes', 'Bytes of bodies, lines, outcomes and long answers in memory.', open.bodyBytes)
    return `${lines.join('\n')}\n`
  }
}

/** The labels of a sample, with the escapes of the text format. */
function labels(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}="${plain(String(value)).replace(/[\\"]/g, '\\$&')}"`)
    .join(',')
}
