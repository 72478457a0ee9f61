export * from './app/index.ts'
export { type Clock, systemClock } from './clock.ts'
export {
  createEngine,
  type Engine,
  type EngineOptions,
  type EngineStats,
  type ReadOptions,
  type SubmitOptions,
  type TableChange,
} from './engine.ts'
export type { Report, Reporter } from './report.ts'
export type { Reply } from './request/admission.ts'
export type { Storage } from './storage.ts'
