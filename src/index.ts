export * from './app/index.ts'
export { type Clock, systemClock } from './clock.ts'
export type { Story, StoryChange, StoryStep } from './derivation/story.ts'
export {
  type Changes,
  createEngine,
  type Engine,
  type EngineOptions,
  type EngineStats,
  type SubmitOptions,
} from './engine.ts'
export type { Report, Reporter } from './report.ts'
export type { Storage } from './storage.ts'
