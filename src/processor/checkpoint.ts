import type { ControlFact } from '../log/control-history.ts'
import type { SavedChannel } from './channels.ts'
import type { SavedPlacing } from './placing.ts'
import type { TracedDerivation } from './traces.ts'

/** What is saved beside the rows. */
export interface Checkpoint {
  readonly logId: string
  readonly generation: number
  /** The version of the code that derives what comes next. */
  readonly version: string
  /** The offset that each partition was derived up to. */
  readonly positions: readonly number[]
  readonly time: number
  readonly channels: readonly SavedChannel[]
  readonly tracesFrom: readonly number[]
  readonly feedFrom: readonly number[]
  /** Log time of the last record of each partition. */
  readonly times: readonly number[]
  /** The control records so far. */
  readonly history: readonly ControlFact[]
  /** By partition: the number of the last correction of the last promotion, or -1. */
  readonly corrected: readonly number[]
  readonly correctedCount: number
  readonly placing: SavedPlacing
  /** By partition: what was derived since its last record. */
  readonly untraced: readonly (readonly TracedDerivation[])[]
}
