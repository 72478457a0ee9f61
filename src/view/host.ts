import type { Clock } from '../clock.ts'
import type { Codes } from '../generation/codes.ts'
import type { Generation, GenerationHost } from '../generation/generation.ts'
import type { Reporter } from '../report.ts'
import type { Storage } from '../storage/storage.ts'

/** The services of the engine that views use. */
export interface ViewsHost {
  readonly storage: Storage
  readonly codes: Codes
  readonly generations: GenerationHost
  readonly clock: Clock
  readonly report: Reporter
  /** The number of changed rows after which a view is saved. */
  readonly checkpointRows: number
  /** Resolves to the live generation, once it has caught up. */
  live(): Promise<Generation>
  /** The live generation has applied all records with an earlier log time. */
  frontier(): number
  /** Resolves when the live generation has applied another record; rejects when it never will. */
  next(): Promise<void>
  /** Whether any request waits for its outcome. */
  isBusy(): boolean
}
