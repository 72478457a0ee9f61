import { app, effect, type Scope, scopes } from '../app/index.ts'
import { changeError } from '../failure.ts'

/** The part of a definition that identifies it. */
interface Definition {
  readonly kind: string
  readonly name?: string
  readonly scope?: string
  readonly event?: unknown
}

/** Which list of `app(…)` a kind of definition belongs to. An event is listed by its reaction. */
const lists: Readonly<Record<string, string>> = {
  table: 'tables',
  event: 'reactions',
  reaction: 'reactions',
  constraint: 'constraints',
  effect: 'effects',
}

/**
 * `app`, `effect` and `scopes` for one loading of a module, and a check that every definition made by them is
 * listed in an app. A derivation can reach any definition of its module; if one is not listed, this finds it
 * at the start, and not by a failed request.
 */
export function recordDefinitions() {
  const made = new Set<Definition>()
  const listed = new Set<unknown>()
  const recorded = <D extends Definition>(definition: D): D => {
    made.add(definition)
    return definition
  }
  const recording = (scope: Scope): Scope => ({
    ...scope,
    table: (...args) => recorded(scope.table(...args)),
    event: (...args) => recorded(scope.event(...args)),
    on: (...args) => recorded(scope.on(...args)),
    correct: (...args) => recorded(scope.correct(...args)),
    unique: (...args) => recorded(scope.unique(...args)),
    capacity: (...args) => recorded(scope.capacity(...args)),
  })
  return {
    effect: (...args: Parameters<typeof effect>) => recorded(effect(...args)),
    scopes: (...names: string[]) => scopes(...names).map(recording),
    app(...[name, parts]: Parameters<typeof app>) {
      for (const list of Object.values(parts))
        for (const each of Array.isArray(list) ? list : []) listed.add(each)
      for (const { event } of parts.reactions ?? []) listed.add(event)
      return app(name, parts)
    },
    /** @throws HenceError `unknown-definition` (change) */
    check(): void {
      for (const definition of made) {
        if (listed.has(definition)) continue
        const { kind, name, scope, event } = definition
        const what =
          name ?? (event as Definition).name ?? (event as { effect?: string }).effect ?? 'corrections'
        throw changeError(
          'unknown-definition',
          `The module defines the ${kind} ${kind === 'reaction' ? 'to ' : ''}"${what}"` +
            `${scope === undefined ? '' : ` of scope "${scope}"`} and no app lists it: add ` +
            `${kind === 'event' ? 'its reaction' : 'it'} to \`${lists[kind]}\` of \`app(…)\`, or remove it.`,
        )
      }
    },
  }
}
