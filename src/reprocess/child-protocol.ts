import type { DiffSummary } from '../diff/diff-summary.ts'
import type { Candidate, CandidateOptions } from './candidate.ts'
import type { Cut, Progress } from './follower.ts'

/** How a process is told to derive a generation. */
export interface Deriving extends CandidateOptions {
  /** The data directory. */
  readonly directory: string
  /** The id of the process of the engine. */
  readonly engine: number
  readonly checkpointRows: number
  readonly keptMs: number
  /** Whether every record is derived twice. */
  readonly checked: boolean
}

/** What the process of the engine asks of the one that derives; see `Other`. */
export type DerivingCalls = Pick<
  Candidate,
  | 'start'
  | 'pause'
  | 'caughtUp'
  | 'level'
  | 'pass'
  | 'save'
  | 'snapshot'
  | 'stopSumUp'
  | 'correctAhead'
  | 'correct'
  | 'release'
> & {
  open(deriving: Deriving): Promise<void>
  share(share: number | undefined): void
  sumUp(options: { readonly samples: number | undefined; readonly lines: boolean }): Promise<DiffSummary>
  close(): Promise<void>
}

/** What the process that derives asks of the one of the engine. */
export type EngineCalls = {
  cut(than: readonly number[] | undefined): Promise<Cut>
  progress(progress: Progress): void
  /** Takes lines of a diff; resolves when there is room for more. */
  lines(lines: readonly string[]): Promise<void>
}
