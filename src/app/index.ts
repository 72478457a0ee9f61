/** The pure part of Hence, for pure modules of apps. In the sandbox, `hence` resolves to this file. */

export { type Advice, HenceError } from '../failure.ts'
export {
  type App,
  app,
  type EffectName,
  type EffectNamed,
  type RequestInput,
  type RequestName,
  type RequestReason,
  type RequestValue,
  type TableKey,
  type TableName,
  type TableValue,
} from './app.ts'
export type {
  CapacityOptions,
  Claim,
  ClaimOptions,
  Constraint,
  ConstraintOptions,
  Mode,
  Overbook,
  Victims,
  WaitingList,
} from './constraint.ts'
export type { Correction, EffectCorrection, OutcomeCorrection, RowCorrection } from './correction.ts'
export { type Effect, type EffectMessage, effect } from './effect.ts'
export type { DataOf, Event } from './event.ts'
export type { Fill, FillMessage, FillRows } from './fill.ts'
export type { FoldedChange, FoldedEvent, FoldedRequest } from './folded.ts'
export { type Outcome, type Rejection, reject } from './outcome.ts'
export type { Request, ViolationCause } from './request.ts'
export type { Frozen, InputOf, Json, OutputOf, Schema } from './schema.ts'
export { type Reaction, type Scope, scopes } from './scope.ts'
export type { Enqueued, ReadOptions, Reply, Service, TableChange } from './service.ts'
export type { KeyKind, KeyPart, Query, QueryPart, ReadRule, Row, Table, ValueOf, Who } from './table.ts'
export type { EmitOptions, SettledClaim, Tx } from './tx.ts'
export {
  type View,
  type ViewRows,
  viewsOf,
  type WithViews,
} from './view.ts'
