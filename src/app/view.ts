import { changeError } from '../failure.ts'
import type { App, RequestName, RequestReason, RequestValue, TableKey, TableName, TableValue } from './app.ts'
import { checkReadRule } from './app.ts'
import type { Effect } from './effect.ts'
import type { FoldedChange, FoldedEvent, FoldedRequest } from './folded.ts'
import { checkName, sqlName } from './name.ts'
import type { Request } from './request.ts'
import type {
  FoldedRows,
  IndexableField,
  KeyKind,
  KeyPart,
  PartsOf,
  Table,
  TableDefinition,
} from './table.ts'

/**
 * A read model: rows under keys of its own choosing, folded from requests and their outcomes, events, and
 * changed rows of tables. It decides nothing and sends nothing, so it may be added, changed and dropped at
 * any time. It is read like a table.
 */
export interface View<
  Name extends string = string,
  // biome-ignore lint/suspicious/noExplicitAny: as with a table of any value.
  Value = any,
  P extends readonly KeyKind[] = readonly KeyKind[],
  Index extends string = string,
> extends Table<'views', Name, Value, P, Index> {
  readonly folds: Folds
  /** The name under which its rows are in SQLite; undefined if they are not. */
  readonly sql: string | undefined
}

/** The functions of a view, by the name of the message that each takes. */
export interface Folds {
  readonly tables: Readonly<Record<string, Fold>>
  readonly requests: Readonly<Record<string, Fold>>
  readonly events: Readonly<Record<string, Fold>>
}

/** Whether a table is a view: its changes have positions of their own. */
export const isView = (table: object): table is View => 'folds' in table

// biome-ignore lint/suspicious/noExplicitAny: a fold takes one kind of message, and this is any fold.
export type Fold = (rows: any, message: any) => void

/** The rows of a view, in a fold. Keys are whole; rows are frozen. */
export interface ViewRows<T extends Table> extends FoldedRows<T, ViewKey<T>> {}

type RowsOf<Name extends string, V, P extends readonly KeyKind[], I> = ViewRows<
  Table<'views', Name, V, P, keyof I & string>
>
type ViewKey<T extends Table> = [first: string, ...rest: Extract<PartsOf<T>, KeyPart[]>]

type OutputOfRequest<A extends App, N> =
  A extends App<infer R, Table, Effect>
    ? Extract<R, { readonly name: N }> extends Request<string, string, infer _I, infer Output>
      ? Output
      : never
    : never

/**
 * Returns `view`, which defines the views of an app, in a module beside it that imports only the app's type:
 * so a change of a view is no change of the code that decides.
 *
 *   const view = viewsOf<typeof shop>()
 *   export default [view('sold-by-day', { value, tables: { orders(rows, { before, after }) { … } } })]
 *
 * Folds must be deterministic. They get the messages of each partition in the order of its log; those of
 * several partitions by log time, within a millisecond by partition. `key` names the kinds of the parts of a
 * key after the first, which is a text.
 */
export function viewsOf<A extends App>() {
  return function view<
    const Name extends string,
    V,
    const P extends readonly KeyKind[] = [],
    const I extends Readonly<Record<string, readonly IndexableField<V>[]>> = Record<never, never>,
  >(
    name: Name,
    definition: TableDefinition<V, P, I> & {
      /**
       * Keeps the rows in SQLite, in columns made of the schema, under this name; `true`: `by-day` is
       * `by_day`.
       */
      readonly sql?: true | string
      readonly tables?: {
        readonly [N in TableName<A>]?: (
          rows: RowsOf<Name, V, P, I>,
          change: FoldedChange<TableKey<A, N>, TableValue<A, N>>,
        ) => void
      }
      readonly requests?: {
        readonly [N in RequestName<A>]?: (
          rows: RowsOf<Name, V, P, I>,
          request: FoldedRequest<OutputOfRequest<A, N>, RequestValue<A, N>, RequestReason<A, N>>,
        ) => void
      }
      readonly events?: Readonly<Record<string, (rows: RowsOf<Name, V, P, I>, event: FoldedEvent) => void>>
    },
  ): View<Name, V, P, keyof I & string> {
    const { value, key, indexes, read, sql, tables = {}, requests = {}, events = {} } = definition
    return {
      kind: 'table',
      scope: 'views',
      name,
      value,
      parts: (key ?? []) as never,
      indexes: (indexes ?? {}) as never,
      read,
      sql: sql === true ? sqlName(name) : sql,
      folds: { tables, requests, events } as never,
    }
  }
}

/** The type of an app together with the views of a module: `connect<WithViews<typeof shop, typeof views>>`. */
export type WithViews<A extends App, Views extends readonly View[]> =
  A extends App<infer R, infer T, infer E> ? App<R, T | Views[number], E> : never

/** Checks the default export of a module of views. */
export function checkViews(exported: unknown): ReadonlyMap<string, View> {
  const list = Array.isArray(exported) ? (exported as readonly View[]) : undefined
  if (list === undefined || list.some((each) => each?.folds === undefined))
    throw invalid('A module of views must export a list of `view(…)` as its default export.')
  const views = new Map<string, View>()
  for (const view of list) {
    checkName('view', view.name)
    for (const index of Object.keys(view.indexes)) checkName(`index of view "${view.name}"`, index)
    checkReadRule(view)
    if (views.has(view.name)) throw invalid(`The view "${view.name}" is defined twice: rename or remove one.`)
    views.set(view.name, view)
  }
  return views
}

const invalid = (message: string) => changeError('app-invalid', message)
