import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { type Preview, pathOf, post } from './api.ts'
import { type Change, RowChange } from './compared.tsx'
import { plural } from './format.ts'
import { Json } from './parts.tsx'
import { Problem } from './shell.tsx'

interface Consequential {
  /** The decision, and its input without a reason. */
  readonly type: 'hence:resolve-violation' | 'hence:redrive'
  readonly input: object
}

/** The rows that a decision would change, and the effects that it would send, before it is made. */
export function Consequences({ type, input }: Consequential) {
  const { data, error } = useQuery({
    queryKey: ['preview', type, input],
    queryFn: () => post<Preview>(`previews/${pathOf(type)}`, { ...input, reason: 'preview' }),
    placeholderData: keepPreviousData,
    // A busy server may have had no time for all of it.
    refetchInterval: ({ state }) => state.data?.isWhole === false && againMs,
    retry: false,
  })
  if (error) return <Problem error={error} />
  if (data === undefined) return <p className="preview">Working out what it would do…</p>
  const { outcome, isWhole, steps } = data
  if (outcome === undefined)
    return <p className="preview">Its key waits for another request: what it would do is not known yet.</p>
  if (outcome.status !== 'accepted')
    return <p className="preview bad">It would be refused now: {reasonOf(outcome)}.</p>
  const rows = changedRows(steps.flatMap(({ changes }) => changes))
  const effects = [
    ...new Map(steps.flatMap((step) => step.effects).map((effect) => [effect.id, effect])).values(),
  ]
  const failures = steps.flatMap(({ key, failure }) => (failure ? [{ key, ...failure }] : []))
  const least = isWhole ? '' : 'At least '
  return (
    <section className="consequences" aria-label="What it would do" aria-live="polite">
      <p>
        {least}
        {plural(rows.length, 'row')} would change and {plural(effects.length, 'effect')} would be sent.
      </p>
      {failures.map(({ key, code, message }) => (
        <p key={`${key} ${code}`} className="bad">
          {key} would fail with {code}: {message}
        </p>
      ))}
      {(rows.length > 0 || effects.length > 0) && (
        <details>
          <summary>Show them</summary>
          {effects.slice(0, shown).map(({ id, type, key, input }) => (
            <section key={id} className="change">
              <h3>
                {type} for {key}
              </h3>
              <Json value={input} label={`Input of ${type} for ${key}`} />
            </section>
          ))}
          {rows.slice(0, shown).map((change) => (
            <RowChange key={nameOf(change)} change={change} />
          ))}
          {(rows.length > shown || effects.length > shown) && (
            <p className="quiet">The first {shown} of each.</p>
          )}
        </details>
      )}
    </section>
  )
}

const shown = 50
const againMs = 2_000

function reasonOf(outcome: Exclude<NonNullable<Preview['outcome']>, { status: 'accepted' }>): string {
  return outcome.status === 'rejected' ? outcome.reason : `${outcome.code}, ${outcome.message}`
}

const nameOf = ({ table, key }: Change) => JSON.stringify([table, key])

/** The rows of the app, each as it was before all steps and would be after them. */
function changedRows(changes: readonly Change[]): readonly Change[] {
  const rows = new Map<string, Change>()
  for (const change of changes) {
    if (change.table.startsWith('hence.')) continue
    const first = rows.get(nameOf(change))
    rows.set(nameOf(change), first === undefined ? change : { ...change, before: first.before })
  }
  return [...rows.values()].filter(({ before, after }) => JSON.stringify(before) !== JSON.stringify(after))
}
