export * from './app/index.ts'
export type { SubmitOptions } from './app/service.ts'
export { type Consistency, checkConsistency, type Growth } from './audit/consistency.ts'
export type { PartitionHead, SignedHead, TreeHead } from './audit/head.ts'
export { type Publish, publishToFile } from './audit/publisher.ts'
export { checkReceipt, type Proven, type Receipt } from './audit/receipt.ts'
export { readPublicKey } from './audit/signing-key.ts'
export { type Clock, systemClock } from './clock.ts'
export type { Usage, Victim, Violation } from './constraint/tables.ts'
export type { RedriveInput, ResolveInput } from './derivation/operator.ts'
export type { DiffGroup, DiffSummary } from './diff/diff-summary.ts'
export type { Difference } from './diff/difference.ts'
export {
  type Call,
  type Delivery,
  type DeliveryOptions,
  type Handler,
  type Handlers,
  handlers,
} from './effect/handlers.ts'
export type { EffectState, EffectsQuery } from './effect/outbox.ts'
export type { Attempts } from './effect/tries.ts'
export type { Audit } from './engine/audit.ts'
export type { Effects } from './engine/effects.ts'
export type {
  Engine,
  EngineOptions,
  EngineStats,
  HistoryOptions,
  RowScanOptions,
  Standby,
  StoryOptions,
} from './engine/engine.ts'
export type { Health } from './engine/health.ts'
export type { LoggedRecord, LogRecords } from './engine/log-records.ts'
export { createEngine } from './engine/open-engine.ts'
export type { Violations } from './engine/violations.ts'
export type { CodeOf } from './generation/codes.ts'
export type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from './log/carrier.ts'
export type { Appended, Batch, Log, Position } from './log/log.ts'
export type { ChangePlace, RowChange, RowHistory } from './query/history.ts'
export type { KeyedClaim, KeyedViolation } from './query/judged.ts'
export type { Changes } from './query/reader.ts'
export type {
  Preview,
  Story,
  StoryChange,
  StoryCorrection,
  StoryPromotion,
  StoryStep,
} from './query/story.ts'
export type { Alarm, Report, Reporter } from './report.ts'
export type { ControlFact, Diff, Promotion, Reprocessing, ReprocessStatus } from './reprocess/reprocessing.ts'
export { type AppBundle, type AppSource, bundleApp } from './sandbox/bundle.ts'
export {
  type Source,
  type SourceFeed,
  type SourceMessage,
  type SourceOptions,
  type SourcePage,
  type SourceRequest,
  type SourceSettings,
  type SourceStats,
  source,
} from './source/source.ts'
export type { CollectionChanges, KeyRange, Store, StoreView } from './state/store.ts'
export type { Storage } from './storage/storage.ts'
export type { LogMessage, MessagePage } from './view/messages.ts'
