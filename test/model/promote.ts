import { isEqual, type Model } from './model.ts'
import { type Effect, type Key, newKey, type State } from './state.ts'

// A promotion, from docs/how-to/mend-data.md and docs/reference/app.md: the candidate becomes live, effects
// keep their first content, and each difference becomes a correction at its key.

const scopeNames = ['a', 'b']

/** Makes a candidate live in place of `live`, whose outcomes the clients know. */
export function promote(live: State, candidate: Model): void {
  const { state, plan } = candidate
  const fix = (key: Key, what: string) => {
    if (plan.corrects) key.fixes.set(what, (key.fixes.get(what) ?? 0) + 1)
  }
  const corrections: [Key, string][] = []
  for (const id of new Set([...live.keys.keys(), ...state.keys.keys()])) {
    const before = live.keys.get(id) ?? newKey(state.keys.get(id)!.place)
    const after = candidate.key(before.place)
    const [rowsBefore, rowsAfter] = [rowsOf(before), rowsOf(after)]
    for (const row of new Set([...rowsBefore.keys(), ...rowsAfter.keys()]))
      if (!isEqual(rowsBefore.get(row), rowsAfter.get(row)))
        corrections.push([after, `row ${row} ${rowsBefore.has(row)} ${rowsAfter.has(row)}`])
  }
  for (const [identity, before] of live.outcomes) {
    const after = state.outcomes.get(identity)
    const place = state.requests.get(identity) ?? live.requests.get(identity)
    if (place && after && !isEqual(before, after))
      corrections.push([candidate.key(place), `outcome ${nameOf(identity)} ${before.status} ${after.status}`])
    // Retries get the first outcome.
    state.outcomes.set(identity, before)
  }
  for (const [id, before] of live.effects) {
    const after = state.effects.get(id)
    if (after && isEqual(before.input, after.input)) {
      // By new code it is at another key than an operator gave, so that it was not sent again.
      const isRefused = before.state === 'pending' && after.state === 'dead'
      state.effects.set(id, { ...(isRefused ? after : before), place: after.place })
      continue
    }
    const what = `effect ${before.state} ${before.input.text} -> ${after?.input.text}`
    corrections.push([candidate.key(before.place), what])
    // Its id stands for this content for ever, also where the new code asks for nothing.
    state.effects.set(id, replaced(before))
    // Without a \`correct\` the other content is sent under a new id, from the key of the first.
    if (after && !plan.corrects)
      state.effects.set(`${id} corrected`, {
        ...after,
        id: `${id} corrected`,
        place: before.place,
        at: state.now,
      })
  }
  for (const [key, what] of corrections) fix(key, what)
}

/** An effect that the new code does not ask for keeps its content, and is not sent any more. */
function replaced(before: Effect): Effect {
  if (before.state !== 'pending') return { ...before }
  return { ...before, state: 'dead', result: 'other code asks for something else' }
}

const nameOf = (identity: string) => identity.slice(0, identity.indexOf(' '))

/** The rows of a key, by table and key. */
function rowsOf(key: Key): Map<string, unknown> {
  const scope = scopeNames[key.place.s]
  const rows = new Map<string, unknown>()
  if (key.lines.length > 0) rows.set(`journal-${scope} `, key.lines)
  if (key.n !== undefined) rows.set(`counts-${scope} `, key.n)
  for (const [sub, n] of key.rows) rows.set(`rows-${scope} ${sub}`, n)
  for (const [sub, times] of key.fixes) rows.set(`fixes-${scope} ${sub}`, times)
  return rows
}
