import './reprocess.css'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, type ReactNode, useState } from 'react'
import { type Generations, get, type Promotion, post, type ReprocessStatus } from '../api.ts'
import { count, fullTime, minuteTime, plural, span } from '../format.ts'
import { useMe } from '../live.ts'
import { Commands, Vital } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'
import { Review } from './review.tsx'

/** New code, like a pull request for data: derive, follow, review, promote, roll back. */
export function Reprocess() {
  const [promoted, setPromoted] = useState<Promotion>()
  const { data, error } = useQuery({
    queryKey: ['reprocess'],
    queryFn: ({ signal }) => get<Generations>('reprocess', {}, signal),
    refetchInterval: 1_000,
    retry: false,
  })
  const tools = <Commands command={['reprocess', 'status']} path="reprocess" />
  return (
    <Page title="Reprocess" tools={tools}>
      {error && <Problem error={error} />}
      {data && (
        <>
          <Stages of={data.candidate} />
          <Pair generations={data} />
          {promoted && <Promoted promotion={promoted} />}
          {data.candidate === undefined ? (
            <Start generations={data} />
          ) : (
            <>
              <Candidate candidate={data.candidate} />
              {data.candidate.state === 'following' && (
                <Review
                  key={`${data.live.generation} ${data.candidate.generation}`}
                  candidate={data.candidate}
                  onPromoted={setPromoted}
                />
              )}
            </>
          )}
          <History of={data} />
        </>
      )}
    </Page>
  )
}

const stages = ['Derive', 'Follow', 'Review', 'Promote', 'Roll back'] as const

/** How far the candidate has come; after a promotion the way back is open. */
function Stages({ of: candidate }: { of: ReprocessStatus | undefined }) {
  const at = candidate === undefined ? 0 : candidate.wasLive ? 4 : candidate.state === 'following' ? 2 : 0
  return (
    <ol className="stages" aria-label="Stages">
      {stages.map((name, i) => (
        <li
          key={name}
          className={i < at ? 'passed' : ''}
          aria-current={candidate !== undefined && i === at ? 'step' : undefined}
        >
          <span aria-hidden="true">{i < at ? '✓' : i + 1}</span> {name}
        </li>
      ))}
    </ol>
  )
}

function Pair({ generations: { live, candidate } }: { generations: Generations }) {
  return (
    <dl className="vitals">
      <Vital
        name="Live"
        value={`Generation ${live.generation}`}
        more={live.version.slice(0, 12)}
        title={live.version}
      />
      <Vital
        name={candidate?.wasLive ? 'Was live before' : 'Candidate'}
        value={candidate === undefined ? 'None' : `Generation ${candidate.generation}`}
        {...(candidate && { more: candidate.version.slice(0, 12), title: candidate.version })}
      />
      <Vital
        name="State"
        value={candidate?.state ?? '–'}
        look={candidate?.state === 'failed' ? 'bad' : undefined}
        {...(candidate && { more: `works ${Math.round(candidate.share * 100)} % of the time` })}
      />
      <Vital
        name="Derived"
        value={
          candidate === undefined
            ? '–'
            : `${Math.floor((100 * candidate.records) / Math.max(1, candidate.of))} %`
        }
        {...(candidate && { more: `${count(candidate.records)} of ${count(candidate.of)} records` })}
      />
    </dl>
  )
}

/** The progress of the candidate, and the buttons to pause, resume and discard it. */
function Candidate({ candidate }: { candidate: ReprocessStatus }) {
  const { state, records, of, perSecond, leftMs, failures, lastFailure, error, wasLive, generation } =
    candidate
  const queries = useQueryClient()
  const [isAsked, setIsAsked] = useState(false)
  const act = useMutation({
    mutationFn: (action: 'pause' | 'resume' | 'discard') => post(`reprocess/${action}`, {}),
    onSuccess: () => queries.invalidateQueries({ queryKey: ['reprocess'] }),
  })
  const isStopped = state === 'paused' || state === 'failed'
  return (
    <section aria-labelledby="candidate">
      <div className="section-head">
        <h2 id="candidate">{wasLive ? 'The generation that was live before' : 'Candidate'}</h2>
        <div className="tools">
          <button
            type="button"
            className="tool"
            disabled={act.isPending}
            onClick={() => act.mutate(isStopped ? 'resume' : 'pause')}
          >
            {isStopped ? 'Resume' : 'Pause'}
          </button>
          <button type="button" className="tool" aria-expanded={isAsked} onClick={() => setIsAsked(!isAsked)}>
            Discard…
          </button>
          <Commands
            command={['reprocess', isStopped ? 'resume' : 'pause']}
            path={`reprocess/${isStopped ? 'resume' : 'pause'}`}
            body={{}}
          />
        </div>
      </div>
      {state !== 'following' && (
        <progress className="progress" max={Math.max(1, of)} value={records} aria-label="Records derived" />
      )}
      <p className="quiet">
        {state === 'following' && 'It has caught up, and follows the log. Nobody sees it yet.'}
        {state === 'deriving' &&
          `${count(of - records)} records to go${perSecond === undefined ? '' : `, ${count(Math.round(perSecond))} a second`}${leftMs === undefined ? '' : `, about ${span(leftMs)}`}.`}
        {state === 'paused' && 'It is paused, also across restarts.'}
        {failures > 0 && ` ${plural(failures, 'derivation')} threw.`}
      </p>
      {lastFailure && <p className="bad">{`The last one at ${JSON.stringify(lastFailure)}`}</p>}
      {error && (
        <div className="problem" role="alert">
          <strong>{error.code}</strong>
          <p>{error.message}</p>
        </div>
      )}
      {isAsked && (
        <div className="sure">
          <p>
            {wasLive
              ? `Generation ${generation} is deleted: rolling back is not possible any more.`
              : `Generation ${generation} is deleted, with everything derived so far.`}
          </p>
          <button type="button" className="primary" onClick={() => act.mutate('discard')}>
            Discard generation {generation}
          </button>
          <button type="button" className="tool" onClick={() => setIsAsked(false)}>
            Keep it
          </button>
          <Commands
            command={['reprocess', 'discard', ...(wasLive ? ['--yes'] : [])]}
            path="reprocess/discard"
            body={{}}
          />
        </div>
      )}
      {act.error && <Problem error={act.error} />}
    </section>
  )
}

function Promoted({ promotion }: { promotion: Promotion }) {
  const { generation, before, corrections, effectsNew } = promotion
  return (
    <p className="done-note" role="status">
      Generation {generation} is live; generation {before} is kept for a rollback. Recorded:{' '}
      {plural(corrections.outcome + corrections.effect + corrections.row, 'correction')}. Sent now:{' '}
      {plural(effectsNew, 'new effect')}.
    </p>
  )
}

/** Without a candidate: how one is started. Code is never sent over HTTP, so the command line brings it. */
function Start({ generations: { live, history } }: { generations: Generations }) {
  const queries = useQueryClient()
  const me = useMe()
  const kept = [...new Set(history.map(({ version }) => version))].filter((each) => each !== live.version)
  const [version, setVersion] = useState('')
  const isVersion = /^[0-9a-f]{64}$/.test(version)
  const start = useMutation({
    mutationFn: () => post('reprocess', { version }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ['reprocess'] }),
  })
  const submitted = (event: FormEvent) => {
    event.preventDefault()
    start.mutate()
  }
  const module = `${me.data?.app ?? 'app'}.ts`
  return (
    <section aria-labelledby="start">
      <h2 id="start">Derive everything again with other code</h2>
      <p className="prose">
        The candidate is derived beside the live generation. Nobody sees it and none of its effects are sent
        before you promote it. A server takes no code over HTTP: the command line puts it into the data
        directory, then starts it here.
      </p>
      <div className="tools">
        <code className="command line">hence reprocess run {module} --data data --url …</code>
        <Commands command={['reprocess', 'run', module]} path="reprocess" body={{ version: 'VERSION' }} />
      </div>
      <form className="ask" onSubmit={submitted}>
        <label>
          Version whose code is kept
          <input
            value={version}
            onChange={({ target }) => setVersion(target.value.trim())}
            list="kept-versions"
            placeholder="64 hexadecimal digits"
            className="mono"
            autoComplete="off"
            required
          />
        </label>
        <datalist id="kept-versions">
          {kept.map((each) => (
            <option key={each} value={each} />
          ))}
        </datalist>
        <button type="submit" className="primary" disabled={!isVersion || start.isPending}>
          Start
        </button>
      </form>
      {start.error && <Problem error={start.error} />}
    </section>
  )
}

function History({ of: { history } }: { of: Generations }) {
  return (
    <section aria-labelledby="history">
      <h2 id="history">History</h2>
      <table className="data changes-of-code">
        <thead>
          <tr>
            {['Time', 'Generation', 'Version', 'By', 'Diff'].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
            <th scope="col" className="wide">
              Note
            </th>
          </tr>
        </thead>
        <tbody>
          {history.toReversed().map((fact) => (
            <tr key={fact.number}>
              <td className="time" title={fullTime(fact.at)}>
                {minuteTime(fact.at)}
              </td>
              <td>{fact.generation}</td>
              <Short text={fact.version} />
              {fact.type === 'promotion' ? (
                <>
                  <td>{fact.principal || 'this machine'}</td>
                  <Short text={fact.diff} />
                  <td className="wide">
                    {fact.note ?? <span className="quiet">promoted without a note</span>}
                  </td>
                </>
              ) : (
                <>
                  <td />
                  <td />
                  <td className="wide quiet">
                    {fact.before === undefined ? 'the log begins' : 'other code, from here on'}
                  </td>
                </>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

function Short({ text }: { text: string }): ReactNode {
  return (
    <td className="mono" title={text}>
      {text.slice(0, 8)}
    </td>
  )
}
