import { keepPreviousData, useQueries, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { lazy, Suspense, useMemo, useState } from 'react'
import {
  type Generations,
  get,
  type LogPage,
  type LogRecord,
  Refused,
  type SeriesView,
  type Status,
} from '../api.ts'
import { ago, bounded, brief, count, decimal, exactTime, fullTime, minuteTime } from '../format.ts'
import { quantile, useDeadEffects, useMe, useOpenViolations, useSeries, useStatus } from '../live.ts'
import { Commands, Empty, Outcome, RecordLink, RequestLink, Vital, Words } from '../parts.tsx'
import type { PlotLine } from '../plot.tsx'
import { Page, Problem } from '../shell.tsx'

const route = getRouteApi('/')
const Plot = lazy(() => import('../plot.tsx'))

export function Overview() {
  const me = useMe()
  const status = useStatus()
  const tools = <Commands command={['tail']} path="status" />
  return (
    <Page title="Overview" tools={tools}>
      {status.data ? (
        <>
          <Vitals status={status.data} />
          <NeedsYou status={status.data} />
          <Throughput />
          <Partitions status={status.data} />
        </>
      ) : (
        status.error && <Refusal error={status.error} />
      )}
      <Latest partitions={me.data?.partitions ?? 1} ends={status.data?.ends} />
    </Page>
  )
}

/** A caller without the permission `operate` still sees the latest requests. */
function Refusal({ error }: { error: Error }) {
  if (!(error instanceof Refused) || error.problem.status !== 403) return <Problem error={error} />
  return <p className="quiet">The counters of the server take the permission operate.</p>
}

function Vitals({ status }: { status: Status }) {
  const { data: series } = useSeries('second')
  const { replies, submits, now } = status
  const decided = replies.accepted + replies.rejected + replies.failed
  const share = (n: number) => (decided === 0 ? '–' : `${decimal((100 * n) / decided)} %`)
  const ofStart = (n: number) => `${count(n)} since the start`
  const { at = [], accepted = [], rejected = [], failed = [] } = series ?? {}
  const recent = [...at.keys()].slice(-5)
  const ofRecent = recent.reduce((sum, i) => sum + accepted[i]! + rejected[i]! + failed[i]!, 0)
  const since = (at: number | undefined) => (at === undefined ? 'never' : ago(now - at))
  return (
    <dl className="vitals">
      <Vital
        name="Requests / s"
        value={recent.length === 0 ? '–' : decimal(ofRecent / recent.length)}
        more="last 5 seconds"
      />
      <Vital
        name="p50 over HTTP"
        value={quantile(submits, 0.5) ?? '–'}
        more={`p99 ${quantile(submits, 0.99) ?? '–'}`}
      />
      <Vital name="Accepted" value={share(replies.accepted)} more={ofStart(replies.accepted)} />
      <Vital name="Rejected" value={share(replies.rejected)} more={ofStart(replies.rejected)} />
      <Vital
        name="Failed"
        value={share(replies.failed)}
        more={ofStart(replies.failed)}
        look={replies.failed > 0 ? 'bad' : undefined}
      />
      <Vital
        name="Verified"
        value={since(status.scrubbedAt)}
        more={status.scrubbedAt === undefined ? 'needs --audit' : minuteTime(status.scrubbedAt)}
        title={status.scrubbedAt === undefined ? undefined : fullTime(status.scrubbedAt)}
      />
      <Vital
        name="Head signed"
        value={since(status.headAt)}
        more={status.headAt === undefined ? 'needs --audit' : minuteTime(status.headAt)}
        title={status.headAt === undefined ? undefined : fullTime(status.headAt)}
      />
      <Vital name="Generation" value={String(status.generation)} more={status.version.slice(0, 8)} />
    </dl>
  )
}

function NeedsYou({ status: { now, alarms } }: { status: Status }) {
  const open = useOpenViolations()
  const dead = useDeadEffects()
  const reprocess = useQuery({
    queryKey: ['reprocess'],
    queryFn: ({ signal }) => get<Generations>('reprocess', {}, signal),
    refetchInterval: 5_000,
    retry: false,
  })
  const soon = open.rows.filter(({ value }) => {
    const { deadline } = value as { deadline: number | null }
    return deadline !== null && deadline - now < 3_600_000
  }).length
  const candidate = reprocess.data?.candidate
  const waits = candidate?.state === 'following' && !candidate.wasLive
  const recent = alarms.filter(({ at }) => now - at < 86_400_000)
  const isNothing = recent.length === 0 && open.rows.length === 0 && dead.effects.length === 0 && !waits
  return (
    <section className="needs-you" aria-labelledby="needs-you">
      <h2 id="needs-you">Needs you</h2>
      {isNothing && <p className="quiet">Nothing.</p>}
      <ul>
        {recent.map(({ code, message, at, count: times }) => (
          <li key={code}>
            <strong className="bad">{code}</strong> {ago(now - at)}
            {times > 1 && `, ${count(times)} times`}: <Words of={message} />
          </li>
        ))}
        {open.rows.length > 0 && (
          <li>
            <Link to="/violations" search={{ state: 'open' }}>
              {bounded(open.rows.length, open.more)} {open.rows.length === 1 ? 'violation' : 'violations'} to
              decide
            </Link>
            {soon > 0 && <strong className="bad"> · {soon} due within the hour</strong>}
          </li>
        )}
        {dead.effects.length > 0 && (
          <li>
            <Link to="/effects" search={{ state: 'dead' }}>
              {bounded(dead.effects.length, dead.more)} dead{' '}
              {dead.effects.length === 1 ? 'effect' : 'effects'}
            </Link>
          </li>
        )}
        {waits && (
          <li>
            <Link to="/reprocess">Generation {candidate.generation} has caught up: review it</Link>
          </li>
        )}
      </ul>
    </section>
  )
}

function Throughput() {
  const { range } = route.useSearch()
  const every = range === 'day' ? 'minute' : 'second'
  const { data } = useSeries(every)
  const [requests, durations] = useMemo(() => (data ? linesOf(data) : [[], []]), [data])
  const at = data?.at ?? []
  const plot = (caption: string, lines: readonly PlotLine[]) => (
    <Suspense fallback={<div className="plot-space" />}>
      {at.length < 2 ? <div className="plot-space" /> : <Plot caption={caption} at={at} lines={lines} />}
    </Suspense>
  )
  return (
    <section aria-label="Requests over time">
      <nav className="tabs" aria-label="Time">
        {(['minutes', 'day'] as const).map((each) => (
          <Link
            key={each}
            from="/"
            to="/"
            search={each === 'day' ? { range: each } : {}}
            className={(range === 'day') === (each === 'day') ? 'current' : ''}
          >
            {each === 'day' ? 'Last day' : 'Last 5 minutes'}
          </Link>
        ))}
      </nav>
      <div className="plots">
        <div>
          <h2>Requests a second</h2>
          {plot('Requests a second by outcome', requests)}
        </div>
        <div>
          <h2>
            Milliseconds{' '}
            <span className="quiet">
              {data?.p50Ms.some((ms) => ms !== null) === false
                ? 'no request came over HTTP'
                : 'a request over HTTP, rounded up'}
            </span>
          </h2>
          {plot('Milliseconds that requests over HTTP took', durations)}
        </div>
      </div>
    </section>
  )
}

function linesOf(series: SeriesView): readonly [PlotLine[], PlotLine[]] {
  const { everyMs, accepted, rejected, failed, p50Ms, p99Ms } = series
  const rate = (counts: readonly number[]) => counts.map((n) => (n * 1_000) / everyMs)
  const requests: PlotLine[] = [
    { label: 'accepted', look: 'good', values: rate(accepted) },
    { label: 'rejected', look: 'warn', values: rate(rejected) },
    { label: 'failed', look: 'bad', values: rate(failed) },
  ]
  const durations: PlotLine[] = [
    { label: 'p50', look: 'accent', values: p50Ms },
    { label: 'p99', look: 'warn', values: p99Ms },
  ]
  return [requests, durations]
}

function Partitions({ status }: { status: Status }) {
  const { applied, ends, now, oldestEffectAt } = status
  const longest = Math.max(1, ...ends)
  return (
    <section aria-labelledby="partitions">
      <h2 id="partitions">Partitions</h2>
      <table className="data">
        <thead>
          <tr>
            <th scope="col" className="number">
              Partition
            </th>
            <th scope="col" className="number">
              Records
            </th>
            <th scope="col" className="wide">
              <span className="sr">Share</span>
            </th>
            <th scope="col" className="number">
              Lag
            </th>
          </tr>
        </thead>
        <tbody>
          {ends.map((end, partition) => {
            const lag = Math.max(0, end - (applied[partition] ?? 0))
            return (
              // A partition is its number.
              // biome-ignore lint/suspicious/noArrayIndexKey: see above
              <tr key={partition}>
                <td className="number">
                  <Link to="/log" search={{ partition }}>
                    {partition}
                  </Link>
                </td>
                <td className="number">{count(end)}</td>
                <td className="wide">
                  <span className="bar" style={{ width: `${(100 * end) / longest}%` }} />
                </td>
                <td className={`number ${lag > 1_000 ? 'bad' : ''}`}>{count(lag)}</td>
              </tr>
            )
          })}
        </tbody>
      </table>
      <p className="quiet">
        {oldestEffectAt === undefined
          ? 'No effect waits.'
          : `The oldest effect that waits was asked for ${ago(now - oldestEffectAt)}.`}
      </p>
    </section>
  )
}

const latestRows = 20
const readPerPartition = 40
/** Beyond this many partitions the newest records of the first ones are shown. */
const partitionsMax = 8

/** The newest records of a partition: asking beyond the end returns where the end is. */
async function newest(partition: number, end: number | undefined, signal: AbortSignal): Promise<LogPage> {
  const at = end ?? (await get<LogPage>('log', { partition, from: 999_999_999_999_999 }, signal)).end
  const from = Math.max(0, at - readPerPartition)
  return get<LogPage>('log', { partition, from, limit: readPerPartition }, signal)
}

function Latest({ partitions, ends }: { partitions: number; ends: readonly number[] | undefined }) {
  const [paused, setPaused] = useState<readonly LogRecord[]>()
  const pages = useQueries({
    queries: Array.from({ length: Math.min(partitions, partitionsMax) }, (_, partition) => ({
      queryKey: ['latest', partition, ends?.[partition]],
      queryFn: ({ signal }: { signal: AbortSignal }) => newest(partition, ends?.[partition], signal),
      placeholderData: keepPreviousData<LogPage>,
      gcTime: 2_000,
    })),
  })
  const error = pages.find((page) => page.error)?.error
  const now = pages
    .flatMap(({ data }) => data?.records ?? [])
    .filter(({ kind }) => kind === 'request')
    .sort((a, b) => b.at - a.at)
    .slice(0, latestRows)
  const shown = paused ?? now
  return (
    <section aria-labelledby="latest">
      <div className="section-head">
        <h2 id="latest">Latest requests</h2>
        <button
          type="button"
          className="tool"
          aria-pressed={paused !== undefined}
          onClick={() => setPaused(paused === undefined ? now : undefined)}
        >
          {paused === undefined ? 'Pause' : 'Go on'}
        </button>
      </div>
      {error instanceof Refused && error.problem.status === 403 ? (
        <p className="quiet">The log takes the permission read.</p>
      ) : shown.length === 0 ? (
        <Empty>No request has arrived yet. Send one: hence submit TYPE INPUT</Empty>
      ) : (
        <RequestTable records={shown} />
      )}
    </section>
  )
}

function RequestTable({ records }: { records: readonly LogRecord[] }) {
  return (
    <div className="scroll-x">
      <table className="data latest">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Token</th>
            <th scope="col">Type</th>
            <th scope="col">Outcome</th>
            <th scope="col">Request</th>
            <th scope="col">By</th>
            <th scope="col" className="wide">
              Input
            </th>
          </tr>
        </thead>
        <tbody>
          {records.map((record) => (
            <tr key={record.token}>
              <td className="time">{exactTime(record.at)}</td>
              <td>
                <RecordLink token={record.token} />
              </td>
              <td>{record.type}</td>
              <td>
                <Outcome value={record.outcome} corrected={record.corrected} />
              </td>
              <td>
                <RequestLink id={record.requestId!} principal={record.principal} />
              </td>
              <td>{record.principal}</td>
              <td className="wide clip mono">{brief(record.input, 90)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
