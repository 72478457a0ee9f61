import { useQueries, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type DragEvent, type FormEvent, useEffect, useState } from 'react'
import { type FullRecord, get, type LogRecord, type Story } from '../api.ts'
import { RowChange } from '../compared.tsx'
import { brief, exactSpan, exactTime, fullTime, shortId, span } from '../format.ts'
import { Commands, Empty, Facts, Json, Outcome, RecordLink, RequestLink, State } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'
import { axisOf, type PictureRow, rowsOf, type Step } from '../story-layout.ts'

const route = getRouteApi('/request')

/** A story as a file, which this page opens again. */
interface SharedStory {
  readonly format: 'hence-story'
  readonly version: 1
  readonly story: Story
  readonly records: readonly LogRecord[]
}

export function Request() {
  const { id, principal } = route.useSearch()
  const [opened, setOpened] = useState<SharedStory>()
  const [flaw, setFlaw] = useState('')
  // biome-ignore lint/correctness/useExhaustiveDependencies: another request replaces the opened file
  useEffect(() => setOpened(undefined), [id, principal])
  const drop = (event: DragEvent) => {
    event.preventDefault()
    const file = event.dataTransfer.files[0]
    if (file !== undefined) {
      void storyIn(file).then(
        (story) => {
          setFlaw('')
          setOpened(story)
        },
        (error: Error) => setFlaw(error.message),
      )
    }
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: files are dropped anywhere on the page
    <div onDrop={drop} onDragOver={(event) => event.preventDefault()} className="drop-zone">
      {flaw !== '' && <p role="alert">{flaw}</p>}
      {opened ? (
        <Picture story={opened.story} records={recordsByToken(opened.records)} from="a file" />
      ) : id === undefined ? (
        <Page title="Request">
          <Ask />
          <p className="quiet">
            Everything that followed from one request, as one picture. Or drop a story here that somebody
            shared as a file. The <Link to="/log">log</Link> has all requests.
          </p>
        </Page>
      ) : (
        <Loaded id={id} principal={principal} />
      )}
    </div>
  )
}

function Ask() {
  const { id, principal } = route.useSearch()
  const navigate = route.useNavigate()
  const find = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    const text = (name: string) => String(form.get(name) ?? '').trim()
    void navigate({ search: { id: text('id'), ...(text('principal') && { principal: text('principal') }) } })
  }
  return (
    <form className="ask" onSubmit={find}>
      <label>
        Request id
        <input name="id" required defaultValue={id} placeholder="0197f5a0-7c2e-…" autoComplete="off" />
      </label>
      <label>
        Sent by
        <input name="principal" defaultValue={principal} placeholder="you" autoComplete="off" />
      </label>
      <button type="submit" className="primary">
        Show
      </button>
    </form>
  )
}

function Loaded({ id, principal }: { id: string; principal: string | undefined }) {
  const { data, error } = useQuery({
    queryKey: ['story', id, principal],
    queryFn: ({ signal }) => get<Story>(`requests/${encodeURIComponent(id)}`, { principal }, signal),
    refetchInterval: ({ state }) => (state.error === null ? 3_000 : false),
  })
  const records = useRecords(data)
  if (data === undefined && error === null) return <p className="quiet">Loading…</p>
  const problem = error && <Problem error={error} />
  return data === undefined ? (
    <Page title={`Request ${shortId(id)}`}>
      {problem}
      <Ask />
    </Page>
  ) : (
    <>
      {problem}
      <Picture story={data} records={records} />
    </>
  )
}

/** Causes are read for so many records; beyond that they follow from the events. */
const recordsMax = 100

/** The records of the steps, which name their causes. Without the permission `read` there are none. */
function useRecords(story: Story | undefined): ReadonlyMap<string, LogRecord> {
  const tokens = [...new Set(story?.steps.slice(1).map(({ token }) => token))].slice(0, recordsMax)
  const found = useQueries({
    queries: tokens.map((token) => ({
      queryKey: ['record', token],
      queryFn: ({ signal }: { signal: AbortSignal }) => get<FullRecord>(`log/${token}`, {}, signal),
      staleTime: Number.POSITIVE_INFINITY,
      retry: false,
    })),
  })
  return recordsByToken(found.flatMap(({ data }) => data ?? []))
}

const recordsByToken = (records: readonly LogRecord[]) =>
  new Map(records.map((record) => [record.token, record] as const))

interface PictureProps {
  readonly story: Story
  readonly records: ReadonlyMap<string, LogRecord>
  /** Where it comes from, if not from this server. */
  readonly from?: string
}

function Picture({ story, records, from }: PictureProps) {
  const { step: chosen = 0 } = route.useSearch()
  const navigate = route.useNavigate()
  const { requestId, principal, type, outcome, corrected, at, token, input } = story
  const rows = rowsOf(story, records)
  const choose = (step: number) =>
    void navigate({ search: (before) => ({ ...before, step }), replace: true, resetScroll: false })
  const step = story.steps[Math.min(chosen, story.steps.length - 1)]
  useEffect(() => {
    const onKey = ({ key, target }: KeyboardEvent) => {
      if (target instanceof HTMLElement && target.matches('input, textarea, select')) return
      if (key === 'j' && chosen < story.steps.length - 1) choose(chosen + 1)
      if (key === 'k' && chosen > 0) choose(chosen - 1)
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  })
  return (
    <Page
      title={
        <>
          {type} <span className="id">{shortId(requestId)}</span>
        </>
      }
      tools={
        <>
          <Share story={story} records={[...records.values()]} />
          <Link to="/audit" search={{ id: requestId, ...(principal && { principal }) }} className="tool">
            Receipt
          </Link>
          <Commands
            command={['explain', requestId, ...(principal ? ['--principal', principal] : [])]}
            path={`requests/${encodeURIComponent(requestId)}`}
            query={{ principal }}
          />
        </>
      }
    >
      <p className="verdict">
        <Outcome value={outcome?.status} corrected={corrected?.status} />
        {outcome?.status === 'rejected' && <code>{outcome.reason}</code>}
        {outcome?.status === 'failed' && <code>{outcome.code}</code>}
        <span>
          sent by <strong>{principal || 'an unnamed sender'}</strong>, in the log at{' '}
          <RecordLink token={token} /> since <time dateTime={new Date(at).toISOString()}>{fullTime(at)}</time>
        </span>
        {from !== undefined && (
          <span className="note">Opened from {from}: this server has not confirmed it.</span>
        )}
      </p>
      <Lanes rows={rows} chosen={step} choose={choose} />
      <div className="request-detail">
        {step && (
          <StepDetail step={step} isRequest={step === story.steps[0]} input={input} outcome={outcome} />
        )}
      </div>
    </Page>
  )
}

function Lanes(props: { rows: readonly PictureRow[]; chosen: Step | undefined; choose(step: number): void }) {
  const { rows, chosen, choose } = props
  if (rows.length === 0) return <Empty>Nothing has followed from it yet.</Empty>
  const axis = axisOf(rows.flatMap((row) => (row.kind === 'effect' ? timesOf(row) : [row.at])))
  const y = (row: number) => row + 0.5
  return (
    <figure className="lanes" aria-label="Steps in the order of log time">
      <div className="axis" aria-hidden="true">
        {axis.marks.map(({ at, x }, i) => (
          <span key={at} className={i > 0 ? 'mark last' : 'mark'} style={{ left: `${x}%` }}>
            {exactTime(at)}
          </span>
        ))}
        {axis.folds.map(({ x, ms }) => (
          <span key={x} className="fold" style={{ left: `${x}%` }}>
            ≈ {span(ms)} ≈
          </span>
        ))}
      </div>
      <div className="lane-rows">
        <svg
          className="causes"
          viewBox={`0 0 100 ${rows.length}`}
          preserveAspectRatio="none"
          aria-hidden="true"
        >
          {rows.map((row, i) => {
            if (row.cause === undefined) return null
            const [from, to] = [axis.x(timeOf(rows[row.cause]!, row)), axis.x(row.at)]
            // A cause is its number.
            // biome-ignore lint/suspicious/noArrayIndexKey: see above
            return <path key={i} d={`M${from} ${y(row.cause)} V${y(i)} H${to}`} />
          })}
        </svg>
        <ol>
          {rows.map((row) =>
            row.kind === 'step' ? (
              <StepLane
                key={`s${row.number}`}
                row={row}
                waitedMs={row.cause === undefined ? 0 : row.at - timeOf(rows[row.cause]!, row)}
                x={axis.x(row.at)}
                isChosen={row.step === chosen}
                choose={choose}
              />
            ) : (
              <EffectLane key={row.effect.id} row={row} places={timesOf(row).map(axis.x)} />
            ),
          )}
        </ol>
      </div>
    </figure>
  )
}

/** When a cause had its effect: an effect causes its result when it ends. */
const timeOf = (cause: PictureRow, row: PictureRow) =>
  cause.kind === 'effect' && row.kind === 'step' ? (cause.effect.endedAt ?? cause.at) : cause.at

type EffectRow = Extract<PictureRow, { kind: 'effect' }>

/** When an effect was asked for, when its last try began, as far as that was measured, and when it ended. */
function timesOf({
  at,
  effect: { endedAt = at, ms = 0 },
}: EffectRow): [asked: number, tried: number, ended: number] {
  return [at, Math.max(at, endedAt - ms), endedAt]
}

interface StepLaneProps {
  readonly row: Extract<PictureRow, { kind: 'step' }>
  /** Log time between its cause and it. */
  readonly waitedMs: number
  readonly x: number
  readonly isChosen: boolean
  choose(step: number): void
}

function StepLane({ row: { step, number, outside }, waitedMs, x, isChosen, choose }: StepLaneProps) {
  const { token, kind, type, changes, failure } = step
  const violation = violationOf(step)
  const isBad = failure !== undefined || (kind === 'result' && type.endsWith('/dead'))
  return (
    <li className={`lane ${isChosen ? 'chosen' : ''}`}>
      <button type="button" className="lane-name" aria-pressed={isChosen} onClick={() => choose(number)}>
        <span className="token">{token}</span>
        <span className={`kind ${isBad ? 'e-dead' : `k-${kind}`}`}>{kind}</span>
        <span className="type">{type}</span>
      </button>
      <div className="track">
        <span className={`node k-${kind} ${isBad ? 'bad' : ''}`} style={{ left: `${x}%` }} />
      </div>
      <p className="said">
        {waitedMs > 0 && <span className="quiet">{exactSpan(waitedMs)} later</span>}
        {failure && <strong className="bad">{failure.code} </strong>}
        {violation !== undefined && (
          <Link to="/violations" search={{ id: violation }} className="flag" title={violation}>
            violation {violation.slice(0, 8)}
          </Link>
        )}
        {outside !== undefined && (
          <span className="flag">
            caused by{' '}
            {outside.record === undefined ? (
              <RecordLink token={outside.token} />
            ) : (
              <RequestLink id={outside.record.requestId!} principal={outside.record.principal} />
            )}
          </span>
        )}
        {changes.slice(0, 3).map((change) => (
          <span key={`${change.table}/${change.key.join('/')}`}>{changeText(change)}</span>
        ))}
        {changes.length > 3 && <span className="quiet">and {changes.length - 3} more rows</span>}
      </p>
    </li>
  )
}

function EffectLane({ row, places }: { row: EffectRow; places: readonly number[] }) {
  const { id, type, state, tries, ms, error } = row.effect
  const [from = 0, tried = 0, to = 0] = places
  return (
    <li className="lane effect">
      <Link to="/effects" search={{ id, state }} className="lane-name">
        <span className="token">effect</span>
        <span className={`kind e-${state}`}>{state}</span>
        <span className="type">{type}</span>
      </Link>
      <div className="track">
        <span className="span waits" style={{ left: `${from}%`, width: `${tried - from}%` }} />
        <span className={`span e-${state}`} style={{ left: `${tried}%`, width: `${to - tried}%` }} />
        <span className={`node e-${state}`} style={{ left: `${to}%` }} />
      </div>
      <p className="said">
        <span>
          {tries === undefined ? 'not done yet' : tries === 1 ? '1 try' : `${tries} tries`}
          {ms !== undefined && `${tries === 1 ? '' : ', the last'} of ${exactSpan(ms)}`}
          {error !== undefined && <span className="bad"> {error}</span>}
        </span>
      </p>
    </li>
  )
}

/** The violation that a step is about, named by the events of its compensation. */
function violationOf({ events, changes }: Step): string | undefined {
  for (const { type, data } of events) {
    if (type === 'hence:compensated') return (data as { violation?: string }).violation
  }
  const row = changes.find(({ table }) => table === 'hence.violations')
  return row === undefined ? undefined : String(row.key[1])
}

type Change = Step['changes'][number]
type Fields = Record<string, unknown>

/** `bookings/17: state booked → denied`. */
function changeText({ table, key, before, after }: Change): string {
  const name = `${table}/${key.join('/')}`
  if (before === undefined) return `${name}: new`
  if (after === undefined) return `${name}: removed`
  const [old, now] = [before as Fields, after as Fields]
  const changed = Object.keys({ ...old, ...now }).filter((field) => brief(old[field]) !== brief(now[field]))
  return `${name}: ${changed.map((field) => `${field} ${plain(old[field])} → ${plain(now[field])}`).join(', ')}`
}

const plain = (value: unknown) => (typeof value === 'string' ? value : brief(value, 40) || '–')

function StepDetail(props: { step: Step; isRequest: boolean; input: unknown; outcome: Story['outcome'] }) {
  const { step, isRequest, input, outcome } = props
  const { token, at, key, changes, events, effects, failure, correction } = step
  return (
    <>
      <h2>
        {step.kind} {step.type}
      </h2>
      <Facts
        of={[
          ['Record', <RecordLink key="r" token={token} />],
          ['Log time', `${fullTime(at)}.${String(at % 1000).padStart(3, '0')}`],
          key !== undefined && ['Partition key', key],
          failure !== undefined && ['Failed', `${failure.code}: ${failure.message ?? ''}`],
          correction !== undefined && [
            'Corrected by',
            `promotion ${correction.promotion.number}, diff ${shortId(correction.promotion.diff ?? '')}`,
          ],
        ]}
      />
      {isRequest && (
        <div className="pair">
          <div>
            <h3>Input</h3>
            <Json value={input} label="Input" />
          </div>
          <div>
            <h3>Outcome</h3>
            <Json value={outcome ?? null} label="Outcome" />
          </div>
        </div>
      )}
      {changes.map((change) => (
        <RowChange key={`${change.table}/${change.key.join('/')}`} change={change} />
      ))}
      {events.length > 0 && (
        <>
          <h3>Events</h3>
          {events.map((event) => (
            <Json key={`${event.type} ${event.key}`} value={event} label={`Event ${event.type}`} />
          ))}
        </>
      )}
      {effects.map((effect) => (
        <section key={effect.id}>
          <h3>
            Effect {effect.type} <State value={effect.state} />
          </h3>
          <Json value={effect.input} label={`Input of ${effect.type}`} />
        </section>
      ))}
    </>
  )
}

/** Saves the story as a file; payloads are masked unless they are asked for. */
function Share({ story, records }: { story: Story; records: readonly LogRecord[] }) {
  const [withPayloads, setWithPayloads] = useState(false)
  const save = () => {
    const shared: SharedStory = { format: 'hence-story', version: 1, story, records }
    const text = JSON.stringify(withPayloads ? shared : masked(shared), null, 1)
    const link = document.createElement('a')
    link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
    link.download = `story-${story.requestId}.json`
    link.click()
    URL.revokeObjectURL(link.href)
  }
  return (
    <>
      <label className="check">
        <input
          type="checkbox"
          checked={withPayloads}
          onChange={({ target }) => setWithPayloads(target.checked)}
        />
        with payloads
      </label>
      <button type="button" className="tool" onClick={save}>
        Share
      </button>
    </>
  )
}

const payloads = [
  'input',
  'value',
  'details',
  'data',
  'before',
  'after',
  'result',
  'bytes',
  'output',
  'error',
  'message',
]

/** The same with every payload's values as dots; its members stay, so that the picture does. */
function masked<T>(shared: T): T {
  const dots = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(dots)
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, dots(each)]))
    }
    return value === null || value === undefined ? value : '···'
  }
  return JSON.parse(
    JSON.stringify(shared, (name, value) => (payloads.includes(name) ? dots(value) : value)),
  ) as T
}

const fileMax = 32 * 1024 * 1024

async function storyIn(file: File): Promise<SharedStory> {
  const given =
    file.size > fileMax
      ? undefined
      : await file
          .text()
          .then(JSON.parse)
          .catch(() => undefined)
  const { format, version, story, records } = (given ?? {}) as Partial<SharedStory>
  if (format !== 'hence-story' || version !== 1 || !Array.isArray(story?.steps) || !Array.isArray(records)) {
    throw new Error(`${file.name} is not a story that this console has shared.`)
  }
  return given as SharedStory
}
