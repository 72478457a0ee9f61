import type { Codes } from '../generation/codes.ts'
import type { Generation, GenerationHost } from '../generation/generation.ts'
import type { Reporter } from '../report.ts'
import type { Foreground } from '../reprocess/pace.ts'
import type { Storage } from '../storage/storage.ts'

/** The services of the engine that views use. */
export interface ViewsHost extends Omit<Foreground, 'sliceMsMax'> {
  readonly storage: Storage
  readonly codes: Codes
  readonly generations: GenerationHost
  readonly report: Reporter
  /** The number of changed rows after which a view is saved. */
  readonly checkpointRows: number
  /** Resolves to the live generation, once it has caught up. */
  live(): Promise<Generation>
  /** The live generation has applied all records with an earlier log time. */
  frontier(): number
}
