import { keepPreviousData, useInfiniteQuery, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type FormEvent, useState } from 'react'
import { type Attempts, type EffectPage, type EffectState, get } from '../api.ts'
import { useDecision } from '../decide.ts'
import { brief, count, exactSpan, fullTime, minuteTime, shortId, span } from '../format.ts'
import { useMe, useStatus } from '../live.ts'
import { Commands, Copy, Empty, Facts, Json, RequestLink, State } from '../parts.tsx'
import { Consequences } from '../preview.tsx'
import { Page, Problem } from '../shell.tsx'
import { useWatch } from '../watch.ts'
import { BulkRedrive } from './bulk-redrive.tsx'

const route = getRouteApi('/effects')
const dayMs = 86_400_000

export function Effects() {
  const { state = 'pending', type, id } = route.useSearch()
  const navigate = route.useNavigate()
  const me = useMe()
  const query = { state, type, limit: 100 }
  const pages = useInfiniteQuery({
    queryKey: ['effects', 'pages', query],
    queryFn: ({ pageParam, signal }) => get<EffectPage>('effects', { ...query, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ cursor }) => cursor,
    placeholderData: keepPreviousData,
  })
  const ended = useWatch('hence.effects', true, pages.refetch)
  const effects = pages.data?.pages.flatMap((page) => page.effects) ?? []
  return (
    <Page
      title="Effects"
      tools={
        <Commands
          command={['effects', 'list', '--state', state, ...(type === undefined ? [] : ['--type', type])]}
          path="effects"
          query={{ state, type }}
        />
      }
    >
      <div className="filters">
        <nav className="tabs" aria-label="State">
          {(['pending', 'dead', 'done'] as const).map((each) => (
            <Link
              key={each}
              from="/effects"
              to="/effects"
              search={{ state: each, type }}
              className={each === state ? 'current' : ''}
            >
              {each}
            </Link>
          ))}
        </nav>
        <label>
          Type
          <select
            value={type ?? ''}
            onChange={({ target }) => void navigate({ search: { state, type: target.value || undefined } })}
          >
            <option value="">all</option>
            {me.data?.effects.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      {state === 'dead' && type !== undefined && <BulkRedrive key={type} type={type} />}
      {(pages.error ?? ended) && <Problem error={(pages.error ?? ended)!} />}
      <div className={`split ${id === undefined ? '' : 'has-detail'}`}>
        <div>
          {pages.data && effects.length === 0 && <Empty>{emptyWords[state]}</Empty>}
          {effects.length > 0 && <List effects={effects} chosen={id} />}
          {pages.hasNextPage && (
            <button type="button" className="tool" onClick={() => void pages.fetchNextPage()}>
              More
            </button>
          )}
        </div>
        {id !== undefined && <Detail key={id} id={id} />}
      </div>
    </Page>
  )
}

const emptyWords = {
  pending: 'No effect is pending: all are done or dead.',
  dead: 'No effect is dead.',
  done: 'No effect is done, or the window of those that were has passed.',
} as const

function List({ effects, chosen }: { effects: readonly EffectState[]; chosen: string | undefined }) {
  return (
    <div className="scroll-x">
      <table className="data">
        <thead>
          <tr>
            <th scope="col">Asked for</th>
            <th scope="col">Type</th>
            <th scope="col">Effect</th>
            <th scope="col" className="number">
              Tries
            </th>
            <th scope="col">Request</th>
            <th scope="col" className="wide">
              Error or input
            </th>
          </tr>
        </thead>
        <tbody>
          {effects.map(({ id, type, at, tries, requestId, principal, error, input }) => (
            <tr key={id} className={id === chosen ? 'selected' : ''}>
              <td className="time" title={fullTime(at)}>
                {minuteTime(at)}
              </td>
              <td>{type}</td>
              <td>
                <Link
                  from="/effects"
                  to="/effects"
                  search={(before) => ({ ...before, id })}
                  className="id"
                  title={id}
                >
                  {shortId(id)}
                </Link>
              </td>
              <td className="number">{tries === undefined ? '' : count(tries)}</td>
              <td>
                <RequestLink id={requestId} principal={principal} />
              </td>
              <td className={`wide clip ${error === undefined ? 'mono' : 'bad'}`}>
                {error ?? brief(input, 80)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

type Tried = EffectState & { readonly attempts?: Attempts }

function Detail({ id }: { id: string }) {
  const { data, error } = useQuery({
    queryKey: ['effect', id],
    queryFn: ({ signal }) => get<Tried>(`effects/${encodeURIComponent(id)}`, {}, signal),
    refetchInterval: 2_000,
    placeholderData: keepPreviousData,
  })
  return (
    <aside className="detail" aria-label={`Effect ${id}`}>
      <div className="section-head">
        <h2>{data?.type ?? 'Effect'}</h2>
        <Link
          from="/effects"
          to="/effects"
          search={(before) => ({ ...before, id: undefined })}
          className="tool"
        >
          Close
        </Link>
      </div>
      {error && <Problem error={error} />}
      {data && <EffectDetail effect={data} />}
    </aside>
  )
}

function EffectDetail({ effect }: { effect: Tried }) {
  const {
    id,
    state,
    requestId,
    principal,
    key,
    at,
    endedAt,
    tries,
    ms,
    error,
    redrives,
    attempts,
    input,
    result,
  } = effect
  const status = useStatus()
  const now = status.data?.now ?? at
  return (
    <>
      <Facts
        of={[
          ['State', <State key="s" value={state} />],
          [
            'Id',
            <code key="i" className="hash">
              {id}
            </code>,
          ],
          ['Request', <RequestLink key="r" id={requestId} principal={principal} />],
          ['Partition key', key],
          ['Asked for', fullTime(at)],
          endedAt !== undefined && [
            state === 'done' ? 'Done' : 'Dead since',
            `${fullTime(endedAt)}, after ${span(endedAt - at)}`,
          ],
          tries !== undefined && ['Tries', count(tries)],
          ms !== undefined && ['Last try took', exactSpan(ms)],
          error !== undefined && [
            'Error',
            <span key="e" className="bad">
              {error}
            </span>,
          ],
          redrives !== undefined && ['Sent again', `${count(redrives)} times`],
          attempts && [
            'Failed tries',
            `${count(attempts.tries)}, the next in ${span(attempts.nextAt - now)}`,
          ],
          attempts && [
            'Last error',
            <span key="l" className="bad">
              {attempts.error}
            </span>,
          ],
        ]}
      />
      <h3>Input</h3>
      <Json value={input} label="Input" />
      {result !== undefined && (
        <>
          <h3>Result</h3>
          <Json value={result} label="Result" />
        </>
      )}
      {state === 'dead' && <Redrive effect={effect} now={now} />}
      <div className="tools">
        <Copy text={id}>Copy id</Copy>
        <Commands command={['effects', 'show', id]} path={`effects/${id}`} />
      </div>
    </>
  )
}

/** Sends a dead effect again. */
function Redrive({ effect: { id, key, at }, now }: { effect: Tried; now: number }) {
  const [reason, setReason] = useState('')
  const [mayRepeat, setMayRepeat] = useState(false)
  const decision = useDecision('hence:redrive', () => setReason(''))
  const isOld = now > at + dayMs
  const decided = { effect: id, key, ...(mayRepeat && { mayRepeat }) }
  const input = { ...decided, reason }
  const redrive = (event: FormEvent) => {
    event.preventDefault()
    decision.mutate(input)
  }
  return (
    <form className="decide" onSubmit={redrive}>
      <h3>Send it again</h3>
      <p className="preview">
        It is pending again, under the same id: a receiver that has done it already does not do it twice.
      </p>
      {isOld && (
        <label className="check">
          <input
            type="checkbox"
            checked={mayRepeat}
            onChange={({ target }) => setMayRepeat(target.checked)}
          />
          It is older than a day: send it although the receiver may have forgotten its id
        </label>
      )}
      <Consequences type="hence:redrive" input={decided} />
      <label className="reason">
        Reason
        <input value={reason} onChange={({ target }) => setReason(target.value)} required maxLength={500} />
      </label>
      {decision.error && <Problem error={decision.error} />}
      <div className="tools">
        <button type="submit" className="primary" disabled={reason.trim() === '' || decision.isPending}>
          {decision.isPending ? 'Sending…' : 'Redrive'}
        </button>
        <Commands
          command={['effects', 'redrive', id, '--reason', reason || 'WHY']}
          path={`requests/${encodeURIComponent('hence:redrive')}`}
          body={input}
        />
      </div>
    </form>
  )
}
