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
import type { Request, ViolationCause } from './request.ts'
import type { Frozen, InputOf, OutputOf, Schema } from './schema.ts'
import type { IndexableField, KeyKind, ReadRule, Table } from './table.ts'
import type { Tx } from './tx.ts'
import type { UpcastersTo } from './version.ts'

/**
 * What a partition key stands for: an order, a product, an account. Everything under one key is derived
 * serially, and a derivation reaches nothing else.
 */
export interface Scope<S extends string = string> {
  readonly name: S

  /**
   * A table of this scope. `key` adds parts for many rows a partition key; `indexes` names fields to find
   * rows by. The value's schema gives the type, and is checked in dev mode only. `read` lets people without the
   * scope `read` see the rows that are theirs: `read: (who, row) => row.owner === who.id`.
   */
  table<
    const Name extends string,
    V,
    const P extends readonly KeyKind[] = [],
    const I extends Readonly<Record<string, readonly IndexableField<V>[]>> = Record<never, never>,
  >(
    name: Name,
    definition: {
      readonly value: Schema<unknown, V>
      readonly key?: P
      readonly indexes?: I
      readonly read?: ReadRule<V>
    },
  ): Table<S, Name, V, P, keyof I & string>

  /**
   * A request of this scope. Its input is validated once, when it is admitted; `key` gives its partition
   * key; `derive` decides it, and must be deterministic. With `claims` it holds parts of constraints: strict
   * ones are granted before `derive` runs, loose ones are judged after it, and a request that must give one up is
   * made good by `compensate`.
   *
   * When the schema changes in a way that old messages do not fit, give the new one the next `version`, and in `upcast`
   * for each older one a pure function that makes of what it was what the next one is.
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
    } & UpcastersTo<Version, Frozen<OutputOf<X>>> &
      ReturnsNoEmptyObject<Result>,
  ): Request<S, Name, InputOf<X>, Frozen<OutputOf<X>>, Result, Claimed>

  /** An event that is addressed to a partition key of this scope. Its versions are as those of a request. */
  event<const Name extends string, X extends Schema, const Version extends number = 1>(
    name: Name,
    definition: {
      readonly version?: Version
      readonly data: X
      readonly key: (data: Frozen<OutputOf<X>>) => string
    } & UpcastersTo<Version, Frozen<OutputOf<X>>>,
  ): Event<S, Name, OutputOf<X>>

  /**
   * What happens at an event's partition key when it arrives, or when an effect of this scope's keys was done or
   * given up. An event has exactly one reaction, what comes of an effect one in each scope at most.
   */
  on<E extends Event<S> | EffectMessage>(
    event: E,
    react: (tx: Tx<S>, data: Frozen<MessageOf<E>>) => void,
  ): Reaction<S, E>

  /**
   * What is to be done at a key of this scope for each difference that other code made there, once a person has
   * promoted what it derived: make good, and apologise. At most one in each scope.
   */
  correct(correct: (tx: Tx<S>, correction: Frozen<Correction>) => void): Reaction<S, CorrectionMessage>

  /** A constraint that lets one request hold a key of this scope at a time. */
  unique<const Name extends string>(name: Name, options?: ConstraintOptions): Constraint<S, Name>

  /** A constraint on how many units of a key of this scope requests may hold together. */
  capacity<const Name extends string>(name: Name, options?: CapacityOptions): Constraint<S, Name>
}

/**
 * `{}` is a type that every other object fits, so a derivation that returns `{}` here and `reject(…)` there
 * would lose its reasons without a word. It is refused; nothing, or null, says the same.
 */
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

/** What a reaction is given. */
export type MessageOf<E extends Event | EffectMessage> =
  E extends EffectMessage<string, 'result' | 'dead', infer D> ? D : E extends Event ? DataOf<E> : never

/** Names the scopes of an app: `const [product, order] = scopes('product', 'order')`. */
export function scopes<const Names extends readonly string[]>(
  ...names: Names
): { readonly [I in keyof Names]: Scope<Names[I]> } {
  return names.map((name) => scope(name)) as never
}

function scope<S extends string>(name: S): Scope<S> {
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
    request: (requestName, definition) => ({
      kind: 'request',
      scope: name,
      name: requestName,
      version: definition.version ?? 1,
      upcast: definition.upcast ?? {},
      input: definition.input as never,
      key: definition.key,
      ...(definition.claims && { claims: definition.claims }),
      derive: definition.derive,
      ...(definition.compensate && { compensate: definition.compensate }),
    }),
    event: (eventName, definition) => ({
      kind: 'event',
      scope: name,
      name: eventName,
      version: definition.version ?? 1,
      upcast: definition.upcast ?? {},
      data: definition.data as never,
      key: definition.key as never,
    }),
    on: (event, react) => ({ kind: 'reaction', scope: name, event, react }),
    correct: (react) => ({ kind: 'reaction', scope: name, event: { kind: 'corrections' }, react }),
    unique: (constraintName, options = {}) =>
      constraint(name, constraintName, false, { ...options, limit: 1, overbook: 0 }),
    capacity: (constraintName, options = {}) => constraint(name, constraintName, true, options),
  }
}
