export * from './app/index.ts'
export { type Clock, systemClock } from './clock.ts'
export type { Story, StoryChange, StoryStep } from './derivation/story.ts'
export {
  type Changes,
  createEngine,
  type Engine,
  type EngineOptions,
  type EngineStats,
  type ReadOptions,
  type SubmitOptions,
  type TableChange,
} from './engine.ts'
export type { Report, Reporter } from './report.ts'
export type { Enqueued, Reply } from './request/admission.ts'
export type { Storage } from './storage.ts'
