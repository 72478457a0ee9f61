import type { App } from '../app/index.ts'
import type { Clock } from '../clock.ts'
import type { Engine, Standby } from '../engine/engine.ts'
import type { Alarms, Reporter } from '../report.ts'
import type { Activity } from './activity.ts'
import type { BodyReader } from './body.ts'
import type { Limits } from './limits.ts'
import type { RowRules } from './row-rules.ts'

/** Shared by the routes of one server. */
export interface Serving {
  readonly engine: Engine<App>
  /** The same, if it is a standby: then it has reads and `stats` only. */
  readonly standby: Standby<App> | undefined
  /** The path that the server is mounted at, without a slash at its end. */
  readonly path: string
  readonly limits: Limits
  readonly clock: Clock
  readonly report: Reporter
  /** Those of the server itself. */
  readonly alarms: Alarms
  readonly bodies: BodyReader
  readonly rules: RowRules
  readonly activity: Activity
  readonly closing: AbortSignal
}
