import {
  type CapacityOptions,
  type Claim,
  type Constraint,
  type ConstraintOptions,
  constraint,
} from './constraint.ts'
import type { Correction, CorrectionMessage } from './correction.ts'
import type { EffectMessage } from './effect.ts'
import type { DataOf, Event } from './event.ts'
import type { Fill, FillMessage, FillRows } from './fill.ts'
import type { Request, ServedCause, ViolationCause } from './request.ts'
import type { Frozen, InputOf, OutputOf, Schema } from './schema.ts'
import type { IndexableField, KeyKind, Table, TableDefinition } from './table.ts'
import type { Tx } from './tx.ts'
import type { UpcastersTo } from './version.ts'

/**
 * A kind of partition key, for example an order, a product or an account. Everything under one key is derived
 * serially, and a derivation reaches nothing outside it.
 */
export interface Scope<S extends string = string> {
  readonly name: S

  /**
   * Defines a table. `key` adds key parts, for many rows per partition key; `indexes` names the fields to
   * look rows up by. The value's schema gives the type of rows; only dev mode checks rows against it. `read`
   * lets callers without the permission `read` see some rows:
   * `read: { index: 'byOwner', equals: (who) => who.id }`.
   */
  table<
    const Name extends string,
    V,
    const P extends readonly KeyKind[] = [],
    const I extends Readonly<Record<string, readonly IndexableField<V>[]>> = Record<never, never>,
  >(name: Name, definition: TableDefinition<V, P, I>): Table<S, Name, V, P, keyof I & string>

  /**
   * Defines a request. Its input is validated once, at admission; `key` returns its partition key; `derive`
   * decides it and must be deterministic. `claims` returns claims on constraints: strict ones are granted
   * before `derive` runs, loose ones are judged after it. `compensate` runs when the request must give up a
   * claim, `queued` when it waits for one, `served` when it gets it.
   *
   * When the schema changes so that old messages no longer fit it, raise `version`; `upcast[n]`, a pure
   * function, turns version n into n + 1.
   */
  request<
    const Name extends string,
    X extends Schema,
    Result,
    const Claimed extends string = never,
    const Version extends number = 1,
  >(
    name: Name,
    definition: {
      readonly version?: Version
      readonly input: X
      readonly key: (input: Frozen<OutputOf<X>>) => string
      readonly claims?: (input: Frozen<OutputOf<X>>) => readonly Claim<Claimed>[]
      readonly derive: (tx: Tx<S>, input: Frozen<OutputOf<X>>) => Result
      readonly compensate?: (tx: Tx<S>, input: Frozen<OutputOf<X>>, cause: ViolationCause) => void
      readonly queued?: (tx: Tx<S>, input: Frozen<OutputOf<X>>, cause: ViolationCause) => void
      readonly served?: (tx: Tx<S>, input: Frozen<OutputOf<X>>, cause: ServedCause) => void
    } & UpcastersTo<Version, Frozen<OutputOf<X>>> &
      ReturnsNoEmptyObject<Result>,
  ): Request<S, Name, InputOf<X>, Frozen<OutputOf<X>>, Result, Claimed>

  /** Defines an event addressed to a partition key of this scope. It has versions like a request. */
  event<const Name extends string, X extends Schema, const Version extends number = 1>(
    name: Name,
    definition: {
      readonly version?: Version
      readonly data: X
      readonly key: (data: Frozen<OutputOf<X>>) => string
    } & UpcastersTo<Version, Frozen<OutputOf<X>>>,
  ): Event<S, Name, OutputOf<X>>

  /**
   * Defines the reaction to an event at its partition key, or to the result or failure of an effect requested
   * under a key of this scope. An event has exactly one reaction; an effect's result and failure have at most
   * one per scope.
   */
  on<E extends Event<S> | EffectMessage>(
    event: E,
    react: (tx: Tx<S>, data: Frozen<MessageOf<E>>) => void,
  ): Reaction<S, E>

  /**
   * Defines the compensation for each difference that new code made at a key of this scope; it runs after the
   * promotion. At most one per scope.
   */
  correct(correct: (tx: Tx<S>, correction: Frozen<Correction>) => void): Reaction<S, CorrectionMessage>

  /**
   * Says how rows of a table come from the past: `fold` gets each decided request, emitted event or changed
   * row of one definition of this scope, and the rows under its partition key. It runs where code that has
   * the table continues (`onCodeChange: 'continue'`) what code without it derived, and never again. It must
   * be deterministic.
   */
  fill<T extends Table<S>, Source extends Request<S> | Event<S> | Table<S>>(
    table: T,
    source: Source,
    fold: (rows: FillRows<T>, message: FillMessage<Source>) => void,
  ): Fill<S>

  /** Defines a constraint that lets one request at a time hold a key of this scope. */
  unique<const Name extends string>(name: Name, options?: ConstraintOptions): Constraint<S, Name>

  /** Defines a limit on the units of a key of this scope that requests hold together. */
  capacity<const Name extends string>(name: Name, options?: CapacityOptions): Constraint<S, Name>
}

/** Refuses derivations that return `{}`: every object fits that type, and the reasons would be lost. */
type ReturnsNoEmptyObject<Result> = [EmptyObjectIn<Result>] extends [never]
  ? unknown
  : { readonly derive: 'return nothing instead of {}: it would hide the reasons of rejections' }
type EmptyObjectIn<Result> = Result extends object ? ([keyof Result] extends [never] ? Result : never) : never

export interface Reaction<
  S extends string = string,
  E extends Event | EffectMessage | CorrectionMessage = Event | EffectMessage | CorrectionMessage,
> {
  readonly kind: 'reaction'
  readonly scope: S
  readonly event: E
  // biome-ignore lint/suspicious/noExplicitAny: a reaction to any event takes any data.
  react(tx: Tx<S>, data: any): void
}

/** The data that a reaction gets. */
type MessageOf<E extends Event | EffectMessage> =
  E extends EffectMessage<string, 'result' | 'dead', infer D> ? D : E extends Event ? DataOf<E> : never

/** Defines the scopes of an app: `const [product, order] = scopes('product', 'order')`. */
export function scopes<const Names extends readonly string[]>(
  ...names: Names
): { readonly [I in keyof Names]: Scope<Names[I]> } {
  return names.map((name) => scope(name)) as never
}

function scope<S extends string>(name: S): Scope<S> {
  type Given = { readonly version?: number; readonly upcast?: unknown }
  const message = (kind: string, messageName: string, definition: Given) => {
    const { version = 1, upcast = {} } = definition
    return { ...definition, kind, scope: name, name: messageName, version, upcast } as never
  }
  return {
    name,
    table: (tableName, definition) => ({
      kind: 'table',
      scope: name,
      name: tableName,
      value: definition.value,
      parts: (definition.key ?? []) as never,
      indexes: (definition.indexes ?? {}) as never,
      read: definition.read,
    }),
    request: (requestName, definition) => message('request', requestName, definition),
    event: (eventName, definition) => message('event', eventName, definition),
    on: (event, react) => ({ kind: 'reaction', scope: name, event, react }),
    correct: (react) => ({ kind: 'reaction', scope: name, event: { kind: 'corrections' }, react }),
    fill: (table, source, fold) => ({ kind: 'fill', scope: name, table, source, fold }),
    unique: (constraintName, options = {}) =>
      constraint(name, constraintName, false, { ...options, limit: 1, overbook: 0 }),
    capacity: (constraintName, options = {}) => constraint(name, constraintName, true, options),
  }
}
