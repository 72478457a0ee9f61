import type { App, Engine } from 'hence'
import { placesOf } from './history.ts'
import { Judging } from './judge.ts'
import type { Model } from './model.ts'
import type { AppPlan, TaskInput } from './plan.ts'

/** Everything that can be seen of one case, as lines in one order. */
export type Seen = readonly string[]

/** A row of any table of the app: it has one of these. */
interface RowValue {
  readonly lines: readonly string[]
  readonly n: number
  readonly times: number
}

const scopeNames = ['a', 'b']

/** By prefix of the case. */
export async function seenOfEngine(
  engine: Engine<App>,
  { constraints }: AppPlan,
  prefixes: readonly string[],
): Promise<Map<string, Seen>> {
  const lines = new Map<string, string[]>(prefixes.map((prefix) => [prefix, []]))
  const add = (key: string, what: string, value: unknown) =>
    lines.get(key.slice(0, key.indexOf('.')))!.push(`${what} ${key} ${JSON.stringify(value)}`)
  const rows = (table: string) =>
    engine.scan(table as never) as Promise<readonly { key: [string, string]; value: RowValue }[]>
  for (const scope of scopeNames) {
    for (const { key, value } of await rows(`journal-${scope}`)) add(key[0], `journal-${scope}`, value.lines)
    for (const { key, value } of await rows(`counts-${scope}`)) add(key[0], `counts-${scope}`, value.n)
    for (const { key, value } of await rows(`rows-${scope}`)) add(key[0], `rows-${scope}`, [key[1], value.n])
    for (const { key, value } of await rows(`fixes-${scope}`))
      add(key[0], `fixes-${scope}`, [key[1], value.times])
  }
  for (const state of ['pending', 'done', 'dead'] as const)
    for (const each of await engine.effects.list({ state, limit: 1_000_000 })) {
      const { key, requestId, principal, at, error } = each
      const end = (each.result as { got: string } | undefined)?.got ?? error
      add(key, 'effect', [(each.input as TaskInput).text, state, requestId, principal, at, end])
    }
  for (const each of await engine.violations.list({ limit: 1_000_000 })) {
    const { constraint, key, scope, state, at, excess, deadline, victims, history } = each
    const who = victims.map((v) => `${v.requestId} ${v.principal} ${v.key} ${v.units} ${v.state}`).sort()
    const what = history.map((h) => `${h.at} ${h.what}${h.by ? ` ${h.by.requestId} ${h.by.principal}` : ''}`)
    add(key, 'violation', [constraint, scope, state, at, excess, deadline, who, what])
  }
  for (const prefix of prefixes)
    for (const k of new Set(placesOf(prefix).flatMap((place) => [place.k, `${place.k}m`])))
      for (const [c, { limit: declared }] of constraints.entries()) {
        const { limit, claimed, waiting = 0 } = await engine.violations.usage(`c${c}`, k)
        if (claimed !== 0 || limit !== declared || waiting !== 0)
          add(k, `usage ${c}`, `${claimed}/${limit} ${waiting}`)
      }
  for (const each of lines.values()) each.sort()
  return lines
}

export function seenOfModel(model: Model): Seen {
  const lines: string[] = []
  const add = (key: string, what: string, value: unknown) =>
    lines.push(`${what} ${key} ${JSON.stringify(value)}`)
  const { constraints } = model.plan
  for (const key of model.state.keys.values()) {
    const scope = scopeNames[key.place.s]
    const { k } = key.place
    if (key.lines.length > 0) add(k, `journal-${scope}`, key.lines)
    if (key.n !== undefined) add(k, `counts-${scope}`, key.n)
    for (const row of key.rows) add(k, `rows-${scope}`, row)
    for (const row of key.fixes) add(k, `fixes-${scope}`, row)
    for (const each of key.violations) {
      const { c, state, at, excess, deadline, victims, history } = each
      const who = victims
        .map((v) => `${v.root.requestId} ${v.root.principal} ${v.key} ${v.units} ${v.state}`)
        .sort()
      const what = history.map(
        (h) => `${h.at} ${h.what}${h.by ? ` ${h.by.requestId} ${h.by.principal}` : ''}`,
      )
      add(k, 'violation', [`c${c}`, scope, state, at, excess, deadline, who, what])
    }
    const judging = new Judging(key, constraints, 0, '', () => {})
    for (const [c, { s, limit: declared }] of constraints.entries()) {
      if (s !== key.place.s) continue
      const [claimed, limit, waiting] = [judging.claimed(c), judging.limit(c), judging.judge(c).line.length]
      if (claimed !== 0 || limit !== declared || waiting !== 0)
        add(k, `usage ${c}`, `${claimed}/${limit} ${waiting}`)
    }
  }
  for (const { input, place, root, at, state, result } of model.state.effects.values())
    add(place.k, 'effect', [input.text, state, root.requestId, root.principal, at, result])
  return lines.sort()
}
