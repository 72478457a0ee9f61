import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type FormEvent, type RefObject, useEffect, useRef, useState } from 'react'
import { get, pathOf, type Violation, type ViolationView } from '../api.ts'
import { useDecision } from '../decide.ts'
import { bounded, count, exactTime, fullTime, minuteTime, plural, span, timeOfDay } from '../format.ts'
import { useMe, useOpenViolations, useRows, useStatus } from '../live.ts'
import { Commands, Empty, RequestLink, State, Vital } from '../parts.tsx'
import { Consequences } from '../preview.tsx'
import { Page, Problem } from '../shell.tsx'
import { type Policy, policies, sacrificed } from '../victims.ts'

const route = getRouteApi('/violations')
const listed = 500

export function Violations() {
  const { state = 'open', id } = route.useSearch()
  const navigate = route.useNavigate()
  const open = useOpenViolations()
  const rows = useRows('hence.violations', {
    index: 'byState',
    prefix: JSON.stringify([state]),
    limit: listed,
  })
  const list = (rows.data?.rows ?? []).map(({ key, value }) => ({
    ...(value as unknown as Violation),
    key: String(key[0]),
  }))
  const at = list.findIndex((each) => each.id === id)
  // A decided violation leaves the list; its neighbour is next.
  const lastAt = useRef(0)
  if (at !== -1) lastAt.current = at
  const chosen =
    at !== -1 ? list[at] : id === undefined ? list[0] : list[Math.min(lastAt.current, list.length - 1)]
  const choose = (next: string | undefined) =>
    void navigate({ search: (before) => ({ ...before, id: next }), replace: true, resetScroll: false })

  const shortcut = useRef<Shortcut>(undefined)
  const [isAhead, setIsAhead] = useState(false)
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { key, target, ctrlKey, metaKey, altKey } = event
      if (key === 'Escape') setIsAhead(false)
      if (ctrlKey || metaKey || altKey || isTyping(target) || key.length > 1 || key === ' ' || isAhead) return
      const step = { j: 1, k: -1 }[key]
      const index = list.findIndex((each) => each.id === chosen?.id)
      const next = step === undefined ? undefined : list[index + step]
      if (next !== undefined) choose(next.id)
      else if (shortcut.current?.(key)) event.preventDefault()
      // The letters of a reason, for example, that was meant for another form: none of them may decide.
      else if (step === undefined) setIsAhead(true)
    }
    const onPointer = () => setIsAhead(false)
    addEventListener('keydown', onKey)
    addEventListener('pointerdown', onPointer)
    return () => {
      removeEventListener('keydown', onKey)
      removeEventListener('pointerdown', onPointer)
    }
  })
  return (
    <Page
      title="Violations"
      tools={
        <>
          <p className={isAhead ? 'keys off' : 'keys'} role="status">
            {isAhead ? (
              <>
                Keys are off, because of something that was typed before the form was there: <kbd>Esc</kbd>{' '}
                turns them on.
              </>
            ) : (
              <>
                <kbd>j</kbd> <kbd>k</kbd> move · <kbd>c</kbd> compensate · <kbd>x</kbd> choose · <kbd>w</kbd>{' '}
                waive · <kbd>l</kbd> raise limit
              </>
            )}
          </p>
          <Commands
            command={['violations', 'list', '--state', state]}
            path="tables/hence.violations"
            query={{ index: 'byState', prefix: JSON.stringify([state]) }}
          />
        </>
      }
    >
      <nav className="tabs" aria-label="State">
        {(['open', 'compensating', 'resolved'] as const).map((each) => (
          <Link
            key={each}
            from="/violations"
            to="/violations"
            search={{ state: each }}
            className={each === state ? 'current' : ''}
          >
            {each}
            {each === 'open'
              ? open.rows.length > 0 && ` ${bounded(open.rows.length, open.more)}`
              : each === state && ` ${bounded(list.length, rows.data?.cursor !== undefined)}`}
          </Link>
        ))}
      </nav>
      {rows.error && <Problem error={rows.error} />}
      {rows.data && list.length === 0 && (
        <Empty>
          {state === 'open'
            ? 'No violation waits for a decision. Constraints with review "human" wait here; others decide by themselves.'
            : 'None.'}
        </Empty>
      )}
      <div className={`split ${chosen ? 'has-detail' : ''}`}>
        <List list={list} chosen={chosen?.id} choose={choose} />
        {chosen && <Detail key={chosen.id} violation={chosen} shortcut={shortcut} />}
      </div>
    </Page>
  )
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    target.matches('input:not([type=checkbox],[type=radio]), textarea, select')
  )
}

/** What a key does in the form; false if it does nothing. */
type Shortcut = ((key: string) => boolean) | undefined
type Listed = Violation & { readonly key: string }

interface ListProps {
  readonly list: readonly Listed[]
  readonly chosen: string | undefined
  choose(id: string): void
}

function List({ list, chosen, choose }: ListProps) {
  const status = useStatus()
  const now = status.data?.now ?? Date.now()
  const selected = useRef<HTMLButtonElement>(null)
  // biome-ignore lint/correctness/useExhaustiveDependencies: another one is chosen
  useEffect(() => {
    selected.current?.scrollIntoView({ block: 'nearest' })
  }, [chosen])
  if (list.length === 0) return null
  return (
    <ul className="inbox">
      {list.map(({ id, key, constraint, excess, deadline, state, at }) => {
        const left = deadline === null ? undefined : deadline - now
        return (
          <li key={id}>
            <button
              type="button"
              aria-pressed={id === chosen}
              ref={id === chosen ? selected : undefined}
              onClick={() => choose(id)}
            >
              <span className="what">
                {constraint} / {key}
              </span>
              <span className="excess">{state === 'resolved' ? '' : `${count(excess)} over`}</span>
              <span className={left !== undefined && left < 3_600_000 ? 'due bad' : 'due'}>
                {state !== 'open'
                  ? fullTime(at)
                  : left === undefined
                    ? ''
                    : left < 0
                      ? 'overdue'
                      : `due in ${span(left)}`}
              </span>
            </button>
          </li>
        )
      })}
    </ul>
  )
}

interface DetailProps {
  readonly violation: Listed
  readonly shortcut: RefObject<Shortcut>
}

function Detail({ violation: { id, key, state, constraint }, shortcut }: DetailProps) {
  const path = `violations/${pathOf(key, id)}`
  const { data, error } = useQuery({
    queryKey: ['violation', key, id],
    queryFn: ({ signal }) => get<ViolationView>(path, {}, signal),
    refetchInterval: 2_000,
    placeholderData: keepPreviousData,
  })
  return (
    <aside className="detail" aria-label={`Violation at ${key}`}>
      <div className="section-head">
        <h2>
          {constraint} / {key}
        </h2>
        <State value={state} />
      </div>
      {error && <Problem error={error} />}
      {data && (
        <>
          <dl className="vitals">
            <Vital name="Promised" value={count(data.claimed)} />
            <Vital name="Have" value={count(data.limit)} />
            <Vital
              name="Over"
              value={count(data.violation.excess)}
              look={data.violation.excess > 0 ? 'bad' : undefined}
            />
            <Vital
              name="Due"
              value={data.violation.deadline === null ? 'at once' : minuteTime(data.violation.deadline)}
            />
          </dl>
          {data.violation.state === 'open' && <Decide view={data} shortcut={shortcut} />}
          {data.violation.victims.length > 0 && <Victims of={data.violation} />}
          <History of={data.violation} />
        </>
      )}
    </aside>
  )
}

type Action = 'compensate' | 'choose' | 'waive' | 'raise-limit'
const actions: readonly { readonly action: Action; readonly key: string; readonly name: string }[] = [
  { action: 'compensate', key: 'c', name: 'Compensate' },
  { action: 'choose', key: 'x', name: 'Choose' },
  { action: 'waive', key: 'w', name: 'Waive' },
  { action: 'raise-limit', key: 'l', name: 'Raise limit' },
]

/** A form takes keys once it has been there for so many milliseconds, so that somebody has seen it. */
const seenMs = 300

/** The decision about one violation: who gives way, or that nobody does, and why. */
function Decide({ view, shortcut }: { view: ViolationView; shortcut: RefObject<Shortcut> }) {
  const { violation, claims } = view
  const me = useMe()
  const configured = me.data?.constraints.find(({ name }) => name === violation.constraint)?.victims as
    | Policy
    | undefined
  const [action, setAction] = useState<Action>('compensate')
  const [policy, setPolicy] = useState<Policy>()
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set())
  const [reason, setReason] = useState('')
  const field = useRef<HTMLInputElement>(null)
  const decision = useDecision('hence:resolve-violation', () => field.current?.blur())

  const shownPolicy = policy ?? configured ?? 'newest'
  const byPolicy = sacrificed(claims, violation.excess, shownPolicy)
  const nameOf = (claim: (typeof claims)[number]) => `${claim.principal} ${claim.requestId}`
  const isVictim = (claim: (typeof claims)[number]) =>
    action === 'compensate' ? byPolicy.includes(claim) : action === 'choose' && picked.has(nameOf(claim))
  const victims = claims.filter(isVictim)
  const units = victims.reduce((sum, claim) => sum + claim.units, 0)
  // The constraint's own policy is applied by the server; another one names its victims.
  const isNamed = action === 'choose' || (action === 'compensate' && shownPolicy !== configured)
  const decided = {
    violation: violation.id,
    key: violation.key,
    action: isNamed ? ('choose' as const) : action,
    ...(isNamed && { victims: victims.map(({ requestId, principal }) => ({ requestId, principal })) }),
  }
  const input = { ...decided, reason }
  const pick = (claim: (typeof claims)[number]) => {
    setAction('choose')
    const next = new Set(action === 'choose' ? picked : byPolicy.map(nameOf))
    if (!next.delete(nameOf(claim))) next.add(nameOf(claim))
    setPicked(next)
  }
  const [isSeen, setIsSeen] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setIsSeen(true), seenMs)
    return () => clearTimeout(timer)
  }, [])
  const take = (action: Action) => {
    setAction(action)
    if (action === 'choose') setPicked(new Set(byPolicy.map(nameOf)))
  }
  useEffect(() => {
    shortcut.current = (key) => {
      const found = isSeen ? actions.find((each) => each.key === key) : undefined
      if (found === undefined) return false
      take(found.action)
      field.current?.focus()
      return true
    }
    return () => {
      shortcut.current = undefined
    }
  })
  const decide = (event: FormEvent) => {
    event.preventDefault()
    decision.mutate(input)
  }
  const isReady = reason.trim() !== '' && !(isNamed && victims.length === 0)
  return (
    <form className="decide" onSubmit={decide}>
      <fieldset className="choices">
        <legend>Decision</legend>
        {actions.map(({ action: each, key, name }) => (
          <label key={each} className={each === action ? 'choice chosen' : 'choice'}>
            <input
              type="radio"
              name="action"
              checked={each === action}
              aria-keyshortcuts={isSeen ? key : undefined}
              onChange={() => take(each)}
            />
            {name} <kbd>{key}</kbd>
          </label>
        ))}
      </fieldset>
      {action === 'compensate' && (
        <label className="policy">
          Give way{' '}
          <select value={shownPolicy} onChange={({ target }) => setPolicy(target.value as Policy)}>
            {policies.map((each) => (
              <option key={each} value={each}>
                {each}
                {each === configured ? ' (as declared)' : ''}
              </option>
            ))}
          </select>
        </label>
      )}
      <div className="scroll-x claims">
        <table className="data">
          <caption className="sr">Claims, those that give way first before the others</caption>
          <thead>
            <tr>
              <th scope="col">
                <span className="sr">Gives way</span>
              </th>
              <th scope="col">Held by</th>
              <th scope="col">Sent by</th>
              <th scope="col" className="number">
                Units
              </th>
              <th scope="col" className="number">
                Priority
              </th>
              <th scope="col">Since</th>
            </tr>
          </thead>
          <tbody>
            {claims.map((claim) => (
              <tr key={nameOf(claim)} className={isVictim(claim) ? 'victim' : ''}>
                <td>
                  <input
                    type="checkbox"
                    aria-label={`${claim.key} gives way`}
                    checked={isVictim(claim)}
                    onChange={() => pick(claim)}
                  />
                </td>
                <td>
                  <RequestLink id={claim.requestId} principal={claim.principal}>
                    {claim.key}
                  </RequestLink>
                </td>
                <td>{claim.principal}</td>
                <td className="number">{count(claim.units)}</td>
                <td className="number">{claim.priority}</td>
                <td className="time">
                  {claim.confirmed ? <span className="flag">confirmed</span> : timeOfDay(claim.at)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p className="preview" aria-live="polite">
        {action === 'waive' ? (
          `The excess of ${violation.excess} is accepted. Nobody gives way.`
        ) : action === 'raise-limit' ? (
          `The limit rises by ${violation.excess}, to ${count(view.limit + violation.excess)}. Nobody gives way.`
        ) : (
          <>
            {plural(units, 'unit')} of {violation.excess} over. {plural(victims.length, 'request')} will run{' '}
            <code>compensate</code>, once each.
          </>
        )}
      </p>
      {!(isNamed && victims.length === 0) && <Consequences type="hence:resolve-violation" input={decided} />}
      <label className="reason">
        Reason
        <input
          ref={field}
          value={reason}
          onChange={({ target }) => setReason(target.value)}
          required
          maxLength={500}
        />
      </label>
      {decision.error && <Problem error={decision.error} />}
      <div className="tools">
        <button type="submit" className="primary" disabled={!isReady || decision.isPending}>
          {decision.isPending ? 'Deciding…' : 'Decide'}
        </button>
        <Commands
          command={[
            'violations',
            'resolve',
            violation.id,
            '--action',
            input.action,
            ...(isNamed
              ? victims.flatMap(({ requestId, principal }) => [
                  '--victim',
                  principal ? `${requestId}@${principal}` : requestId,
                ])
              : []),
            '--reason',
            reason || 'WHY',
          ]}
          path={`requests/${encodeURIComponent('hence:resolve-violation')}`}
          body={input}
        />
      </div>
    </form>
  )
}

function Victims({ of }: { of: ViolationView['violation'] }) {
  return (
    <>
      <h3>Gave way</h3>
      <div className="scroll-x">
        <table className="data">
          <thead>
            <tr>
              <th scope="col">Request</th>
              <th scope="col">Sent by</th>
              <th scope="col" className="number">
                Units
              </th>
              <th scope="col">State</th>
            </tr>
          </thead>
          <tbody>
            {of.victims.map(({ requestId, principal, units, state, key }) => (
              <tr key={`${principal} ${requestId}`}>
                <td>
                  <RequestLink id={requestId} principal={principal}>
                    {key}
                  </RequestLink>
                </td>
                <td>{principal}</td>
                <td className="number">{units}</td>
                <td>{state === 'told' ? 'under way' : state}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  )
}

function History({ of }: { of: Violation }) {
  return (
    <>
      <h3>History</h3>
      <ol className="history">
        {of.history.map(({ at, what, units, by, reason }) => (
          <li key={`${at} ${what} ${units}`}>
            <span className="time">{exactTime(at)}</span>
            <span>
              {what === 'grew' ? 'grew to' : what.replace('-', ' ')} {units > 0 && count(units)}
              {by && ` by ${by.principal || 'an operator'}`}
              {reason !== undefined && <q>{reason}</q>}
            </span>
          </li>
        ))}
      </ol>
    </>
  )
}
