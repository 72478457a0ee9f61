import { changeError } from '../failure.ts'
import type { Constraint } from './constraint.ts'
import type { Effect } from './effect.ts'
import type { Event } from './event.ts'
import type { Fill } from './fill.ts'
import { checkName } from './name.ts'
import type { AcceptedOf, ClaimedOf, ReasonOf, Request } from './request.ts'
import type { Reaction } from './scope.ts'
import type { KeyPart, PartsOf, Table, ValueOf } from './table.ts'
import { checkVersions } from './version.ts'

/** An application: its definitions, and nothing that touches the world. */
export interface App<R extends Request = Request, T extends Table = Table, E extends Effect = Effect> {
  readonly name: string
  readonly requests: ReadonlyMap<string, R>
  readonly tables: ReadonlyMap<string, T>
  readonly events: ReadonlyMap<string, Event>
  /** By the name that `reactionName` returns. */
  readonly reactions: ReadonlyMap<string, Reaction>
  readonly constraints: ReadonlyMap<string, Constraint>
  readonly effects: ReadonlyMap<string, E>
  readonly fills: readonly Fill[]
  readonly checksSchemas: boolean
}

/**
 * Builds an app from its definitions. A derivation may only use definitions that are listed here; any other
 * is refused when it is used.
 * @throws HenceError `app-invalid` (change) for an invalid or duplicate name, an event with two reactions, a
 *   version without an upcaster, or an invalid `read` rule
 */
export function app<const R extends Request, const T extends Table, const E extends Effect = never>(
  name: string,
  parts: {
    readonly requests: readonly R[]
    readonly tables: readonly T[]
    readonly reactions?: readonly Reaction[]
    readonly constraints?: readonly Constraint[]
    readonly effects?: readonly E[]
    readonly fills?: readonly Fill[]
    /**
     * Check rows, the data of events and the inputs of effects against their schemas in production too; what
     * does not fit is `row-invalid`, and the derivation fails. Default false: a schema often costs more than
     * the derivation. It is a part of the code, since it decides outcomes.
     */
    readonly checksSchemas?: boolean
  },
): App<R, T, E> {
  checkName('app', name)
  const { reactions = [], constraints = [], effects = [], fills = [] } = parts
  for (const table of parts.tables) {
    for (const index of Object.keys(table.indexes)) checkName(`index of table "${table.name}"`, index)
    checkReadRule(table)
  }
  const made: App<R, T, E> = {
    name,
    requests: byName('request', parts.requests),
    tables: byName('table', parts.tables),
    events: byName(
      'event with a reaction',
      reactions.flatMap(({ event }) => (event.kind === 'event' ? [event] : [])),
    ),
    reactions: unique('reaction to', reactions, reactionName),
    constraints: byName('constraint', constraints),
    effects: byName('effect', effects),
    fills,
    checksSchemas: parts.checksSchemas === true,
  }
  for (const request of made.requests.values()) checkVersions(`request "${request.name}"`, request)
  for (const event of made.events.values()) checkVersions(`event "${event.name}"`, event)
  checkFills(made)
  for (const { event } of reactions) {
    if (event.kind === 'effect-message' && !made.effects.has(event.effect as never)) {
      throw changeError(
        'app-invalid',
        `The app reacts to the effect "${event.effect}" but does not list it: add it to \`effects\`.`,
      )
    }
  }
  return made
}

function checkFills({ fills, tables }: App): void {
  const nameOf = ({ table, source }: Fill) => `${table.name} from the ${source.kind} ${source.name}`
  unique('fill', fills, nameOf)
  for (const fill of fills) {
    const { table, source, scope } = fill
    if (tables.get(table.name) === table && table.scope === scope && source.scope === scope) continue
    throw changeError(
      'app-invalid',
      `The fill "${nameOf(fill)}" belongs to scope "${scope}": its table must be one of the app's tables, ` +
        'and both must be of that scope.',
    )
  }
}

export function checkReadRule({ name, indexes, read }: Table): void {
  if (read === undefined || read === 'everybody' || typeof read === 'function') return
  const isRule = typeof read === 'object' && typeof read?.equals === 'function'
  if (isRule && (read.index === undefined || (indexes[read.index]?.length ?? 0) > 0)) return
  throw changeError(
    'app-invalid',
    isRule
      ? `The \`read\` rule of table "${name}" names the index "${read.index}", which the table does not define.`
      : `The \`read\` rule of table "${name}" must be 'everybody', { index, equals }, or a function of a row.`,
  )
}

/** The key of a reaction in `App.reactions`. Each scope may have its own reaction to an effect. */
function reactionName({ scope, event }: Pick<Reaction, 'scope' | 'event'>): string {
  if (event.kind === 'event') return event.name
  return event.kind === 'corrections'
    ? correctionReactionName(scope)
    : effectReactionName(scope, event.effect, event.part)
}

export function effectReactionName(scope: string, effect: string, part: 'result' | 'dead'): string {
  return `${scope}/${effect}/${part}`
}

/** Each scope has at most one. The name cannot collide with that of an effect's reaction. */
export const correctionReactionName = (scope: string): string => `${scope}/correct`

function byName<D extends { readonly name: string; readonly scope?: string }>(
  kind: string,
  definitions: readonly D[],
): Map<string, D> {
  for (const { name, scope } of definitions) {
    checkName(kind, name)
    if (scope !== undefined) checkName('scope', scope)
  }
  return unique(kind, definitions, ({ name }) => name)
}

function unique<D>(
  kind: string,
  definitions: readonly D[],
  nameOf: (definition: D) => string,
): Map<string, D> {
  const named = new Map<string, D>()
  for (const definition of definitions) {
    const name = nameOf(definition)
    if (named.has(name)) {
      throw changeError('app-invalid', `The app defines ${kind} "${name}" twice: rename or remove one.`)
    }
    named.set(name, definition)
  }
  return named
}

/** The names of an app's requests. */
export type RequestName<A extends App> = A extends App<infer R, Table, Effect> ? R['name'] : never
type RequestNamed<A extends App, N> =
  A extends App<infer R, Table, Effect> ? Extract<R, { readonly name: N }> : never
/** The input of the request with this name, as clients send it. */
export type RequestInput<A extends App, N> =
  RequestNamed<A, N> extends Request<string, string, infer Input> ? Input : never
/** The value of the outcome when the request with this name is accepted. */
export type RequestValue<A extends App, N> =
  RequestNamed<A, N> extends infer R
    ? R extends Request
      ? AcceptedOf<ReturnType<R['derive']>>
      : never
    : never
/**
 * The reasons for which the request with this name may be rejected. They include the constraints it claims,
 * in both modes, so that switching the mode breaks no client.
 */
export type RequestReason<A extends App, N> =
  | ReasonOf<ReturnType<RequestNamed<A, N>['derive']>>
  | ClaimedOf<RequestNamed<A, N>>

/** The names of an app's tables. */
export type TableName<A extends App> = A extends App<Request, infer T, Effect> ? T['name'] : never
export type TableNamed<A extends App, N> =
  A extends App<Request, infer T, Effect> ? Extract<T, { readonly name: N }> : never
/** The whole key of a row: the partition key, then the parts that the table defines. */
export type TableKey<A extends App, N> = readonly [
  key: string,
  ...rest: Extract<PartsOf<TableNamed<A, N>>, KeyPart[]>,
]
export type TableValue<A extends App, N> = ValueOf<TableNamed<A, N>>

/** The names of an app's effects. */
export type EffectName<A extends App> = A extends App<Request, Table, infer E> ? E['name'] : never
export type EffectNamed<A extends App, N> =
  A extends App<Request, Table, infer E> ? Extract<E, { readonly name: N }> : never
