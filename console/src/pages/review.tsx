import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type FormEvent, useEffect, useRef, useState } from 'react'
import { type Diff, get, type Promotion, post, Refused, type ReprocessStatus } from '../api.ts'
import { Compared } from '../compared.tsx'
import { useOnce } from '../decide.ts'
import { count, plural, shortId } from '../format.ts'
import { Commands, Copy, RequestLink } from '../parts.tsx'
import { Problem } from '../shell.tsx'

const route = getRouteApi('/reprocess')
const samplesShown = 20
const parts = ['outcomes', 'tables', 'effects', 'violations', 'claims', 'usage', 'timers'] as const

type Sample = Diff['tables'][number]['samples'][number]
type Group = Diff['tables'][number] & {
  readonly part: string
  readonly id: string
  readonly delivered?: number
}

interface ReviewProps {
  readonly candidate: ReprocessStatus
  onPromoted(promotion: Promotion): void
}

/** The diff of the candidate by groups, with samples; then exactly the diff that is shown can be approved. */
export function Review({ candidate, onPromoted }: ReviewProps) {
  const made = useQuery({
    queryKey: ['diff', candidate.generation],
    queryFn: ({ signal }) => get<Diff>('reprocess/diff', { samples: samplesShown }, signal),
    // A diff compares everything; it is made again only when somebody asks.
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    retry: false,
    enabled: (query) => query.state.dataUpdateCount === 0,
  })
  const diff = made.data
  const isOld = diff !== undefined && candidate.diff !== undefined && candidate.diff !== diff.sha256
  return (
    <section aria-labelledby="diff">
      <div className="section-head">
        <h2 id="diff">
          Diff {diff && <code title={diff.sha256}>{diff.sha256.slice(0, 12)}</code>}{' '}
          {diff && <span className="quiet">{plural(diff.differences, 'difference')}</span>}
        </h2>
        <div className="tools">
          {diff && <Copy text={diff.sha256}>Copy hash</Copy>}
          <button
            type="button"
            className="tool"
            disabled={made.isFetching}
            onClick={() => void made.refetch()}
          >
            {made.isFetching ? 'Comparing…' : 'Compare again'}
          </button>
          <Commands
            command={['reprocess', 'diff', '--samples', String(samplesShown)]}
            path="reprocess/diff"
            query={{ samples: samplesShown }}
          />
        </div>
      </div>
      {made.error && <Problem error={made.error} />}
      {isOld && (
        <p className="warn-note" role="status">
          Another diff was made since, <code>{candidate.diff!.slice(0, 12)}</code>: this one cannot be
          approved any more. Compare again.
        </p>
      )}
      {diff === undefined && made.isFetching && <p className="quiet">Both generations are compared…</p>}
      {diff && <Groups diff={diff} />}
      {diff && <Approve key={diff.sha256} diff={diff} candidate={candidate} onPromoted={onPromoted} />}
    </section>
  )
}

const groupsOf = (diff: Diff): readonly Group[] =>
  parts.flatMap((part) => diff[part].map((group) => ({ ...group, part, id: `${part}/${group.name}` })))

function Groups({ diff }: { diff: Diff }) {
  const groups = groupsOf(diff)
  const { group: asked } = route.useSearch()
  const navigate = route.useNavigate()
  const chosen = groups.find(({ id }) => id === asked) ?? groups[0]
  const seen = useRef(new Set<string>())
  if (chosen) seen.current.add(chosen.id)
  const choose = (id: string) => void navigate({ search: { group: id }, replace: true, resetScroll: false })
  useEffect(() => {
    const onKey = ({ key, target, ctrlKey, metaKey, altKey }: KeyboardEvent) => {
      if (ctrlKey || metaKey || altKey) return
      if (target instanceof HTMLElement && target.matches('input, textarea, select')) return
      const step = { j: 1, k: -1 }[key]
      const next =
        step === undefined || chosen === undefined ? undefined : groups[groups.indexOf(chosen) + step]
      if (next) choose(next.id)
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  })
  if (chosen === undefined) return <p className="empty">Nothing differs.</p>
  return (
    <>
      <p className="quiet">
        {seen.current.size} of {plural(groups.length, 'group')} looked at · <kbd>j</kbd> <kbd>k</kbd> move
      </p>
      <div className="split has-detail groups">
        <ul className="inbox">
          {groups.map(({ id, part, name, added, changed, removed, delivered = 0 }) => (
            <li key={id}>
              <button type="button" aria-pressed={id === chosen.id} onClick={() => choose(id)}>
                <span className="what">
                  <span className="quiet">{part}</span> {name}
                </span>
                <span className="changes">
                  <span className="plus">+{count(added)}</span>{' '}
                  <span className="tilde">~{count(changed)}</span>{' '}
                  <span className="minus">−{count(removed)}</span>
                </span>
                {delivered > 0 && <span className="flag">{count(delivered)} delivered already</span>}
              </button>
            </li>
          ))}
        </ul>
        <GroupDetail group={chosen} />
      </div>
    </>
  )
}

function GroupDetail({ group }: { group: Group }) {
  const { part, name, samples, added, changed, removed } = group
  const all = added + changed + removed
  return (
    <section className="detail" aria-label={`${part} ${name}`}>
      <h2>
        {part} · {name}
      </h2>
      <p className="quiet">
        {samples.length < all
          ? `The first ${count(samples.length)} of ${plural(all, 'difference')}`
          : plural(all, 'difference')}
        ; before is live, after is the candidate.
      </p>
      {samples.map((sample) => (
        <article key={nameOf(sample)} className="change">
          <h3>
            <SampleName of={sample} />
            {sample.kind === 'effect' && sample.delivery === 'done' && (
              <span className="flag">delivered already</span>
            )}
          </h3>
          <div className="scroll-x">
            <Compared before={sample.before} after={sample.after} />
          </div>
        </article>
      ))}
    </section>
  )
}

function nameOf(sample: Sample): string {
  switch (sample.kind) {
    case 'row':
      return `${sample.table} ${JSON.stringify(sample.key)}`
    case 'outcome':
      return `${sample.principal} ${sample.requestId}`
    case 'effect':
      return sample.id
    case 'claim':
      return `${sample.constraint} ${sample.key} ${sample.principal} ${sample.requestId}`
    case 'usage':
      return `${sample.constraint} ${sample.key}`
    case 'violation':
      return sample.id
    case 'timer':
      return `${sample.event} ${sample.scope} ${sample.key} ${sample.name}`
  }
}

/** The thing that differs, with a link to its view. */
function SampleName({ of: sample }: { of: Sample }) {
  switch (sample.kind) {
    case 'row':
      return (
        <Link to="/tables" search={{ table: sample.table, row: JSON.stringify(sample.key) }}>
          {sample.table} / {sample.key.join(' / ')}
        </Link>
      )
    case 'outcome':
      return <RequestLink id={sample.requestId} principal={sample.principal} />
    case 'claim':
      return (
        <>
          {sample.constraint} / {sample.key} of{' '}
          <RequestLink id={sample.requestId} principal={sample.principal} />
        </>
      )
    case 'effect': {
      const { requestId, principal } = (sample.before ?? sample.after)!
      return (
        <>
          <span title={sample.id}>{shortId(sample.id)}</span> of{' '}
          <RequestLink id={requestId} principal={principal} />
        </>
      )
    }
    default:
      return (
        <>
          {sample.kind === 'timer'
            ? `${sample.event} of ${sample.key}`
            : `${sample.constraint} / ${sample.key}`}
        </>
      )
  }
}

/** Approves exactly the diff that is shown: its hash goes with the approval, and another diff is refused. */
function Approve({ diff, candidate, onPromoted }: ReviewProps & { readonly diff: Diff }) {
  const [note, setNote] = useState('')
  const { generation, wasLive } = candidate
  const delivered = diff.effects.reduce((sum, group) => sum + group.delivered, 0)
  const promotion = useOnce(
    (approval: { diff: string; note?: string }, requestId) =>
      post<Promotion>('reprocess/promote', approval, requestId),
    onPromoted,
  )
  const approval = { diff: diff.sha256, ...(note.trim() !== '' && { note: note.trim() }) }
  const approve = (event: FormEvent) => {
    event.preventDefault()
    promotion.mutate(approval)
  }
  const hasChanged = promotion.error instanceof Refused && promotion.error.problem.code === 'diff-unknown'
  return (
    <form className="decide" onSubmit={approve}>
      <h3>{wasLive ? `Roll back to generation ${generation}` : `Promote generation ${generation}`}</h3>
      <p className="preview">
        Requests wait for a moment, then everybody sees {wasLive ? 'the earlier' : 'the new'} state. Outcomes
        that clients have received are corrected, and effects that only this generation asks for are sent.
        {delivered > 0 && (
          <strong className="bad"> {plural(delivered, 'differing effect')} were delivered already.</strong>
        )}
      </p>
      <label className="reason">
        Note
        <input
          value={note}
          onChange={({ target }) => setNote(target.value)}
          maxLength={500}
          placeholder="why, for those who read the log"
        />
      </label>
      {promotion.error && <Problem error={promotion.error} />}
      {hasChanged && (
        <p className="warn-note">
          Nothing was promoted: the diff has changed since you looked at it. Compare again, and approve that
          one.
        </p>
      )}
      <div className="tools">
        <button type="submit" className="primary" disabled={promotion.isPending}>
          {promotion.isPending
            ? 'Promoting…'
            : `${wasLive ? 'Roll back' : 'Approve'} exactly ${diff.sha256.slice(0, 8)}`}
        </button>
        <Commands
          command={[
            'reprocess',
            wasLive ? 'rollback' : 'promote',
            '--diff',
            diff.sha256,
            ...(approval.note ? ['--note', approval.note] : []),
          ]}
          path="reprocess/promote"
          body={approval}
        />
      </div>
    </form>
  )
}
