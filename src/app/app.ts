import { HenceError } from '../failure.ts'
import type { Event } from './event.ts'
import type { AcceptedOf, ReasonOf, Request } from './request.ts'
import type { Reaction } from './scope.ts'
import type { KeyPart, PartsOf, Table, ValueOf } from './table.ts'

/** All that Hence needs to know of an application: made of definitions alone, and pure. */
export interface App<R extends Request = Request, T extends Table = Table> {
  readonly name: string
  readonly requests: ReadonlyMap<string, R>
  readonly tables: ReadonlyMap<string, T>
  readonly events: ReadonlyMap<string, Event>
  /** By the name of the event. */
  readonly reactions: ReadonlyMap<string, Reaction>
}

/**
 * Puts definitions together to an app. A table or event that a derivation uses without being listed here
 * is refused when it is used.
 * @throws HenceError `app-invalid` (change) for bad or doubled names, or an event with two reactions
 */
export function app<const R extends Request, const T extends Table>(
  name: string,
  parts: {
    readonly requests: readonly R[]
    readonly tables: readonly T[]
    readonly reactions?: readonly Reaction[]
  },
): App<R, T> {
  checkName('app', name)
  const reactions = parts.reactions ?? []
  for (const table of parts.tables) {
    for (const index of Object.keys(table.indexes)) checkName(`index of table "${table.name}"`, index)
  }
  return {
    name,
    requests: byName('request', parts.requests),
    tables: byName('table', parts.tables),
    events: byName(
      'reaction to event',
      reactions.map((reaction) => reaction.event),
    ),
    reactions: new Map(reactions.map((reaction) => [reaction.event.name, reaction])),
  }
}

function byName<D extends { readonly name: string; readonly scope: string }>(
  kind: string,
  definitions: readonly D[],
): Map<string, D> {
  const named = new Map<string, D>()
  for (const definition of definitions) {
    checkName(kind, definition.name)
    checkName('scope', definition.scope)
    if (named.has(definition.name)) {
      throw new HenceError(
        'app-invalid',
        'change',
        `There are two ${kind}s named "${definition.name}": rename one.`,
      )
    }
    named.set(definition.name, definition)
  }
  return named
}

// Names stand in records, file names, addresses and key prefixes, so they are kept plain.
function checkName(kind: string, name: string): void {
  if (/^[a-z][a-zA-Z0-9-]{0,63}$/.test(name)) return
  throw new HenceError(
    'app-invalid',
    'change',
    `The ${kind} name ${JSON.stringify(name)} must be 1 to 64 letters, digits and hyphens, and begin with a small letter.`,
  )
}

/** The names of an app's requests. */
export type RequestName<A extends App> = A extends App<infer R, Table> ? R['name'] : never
type RequestNamed<A extends App, N> = A extends App<infer R, Table> ? Extract<R, { readonly name: N }> : never
/** What a request of this name is sent with. */
export type RequestInput<A extends App, N> =
  RequestNamed<A, N> extends Request<string, string, infer Input> ? Input : never
/** What a request of this name gives when it is accepted. */
export type RequestValue<A extends App, N> =
  RequestNamed<A, N> extends infer R
    ? R extends Request
      ? AcceptedOf<ReturnType<R['derive']>>
      : never
    : never
/** Why a request of this name may be rejected. */
export type RequestReason<A extends App, N> = ReasonOf<ReturnType<RequestNamed<A, N>['derive']>>

/** The names of an app's tables. */
export type TableName<A extends App> = A extends App<Request, infer T> ? T['name'] : never
export type TableNamed<A extends App, N> =
  A extends App<Request, infer T> ? Extract<T, { readonly name: N }> : never
/** The whole key of a row: the partition key, then the table's own parts. */
export type TableKey<A extends App, N> = readonly [
  key: string,
  ...rest: Extract<PartsOf<TableNamed<A, N>>, KeyPart[]>,
]
export type TableValue<A extends App, N> = ValueOf<TableNamed<A, N>>
