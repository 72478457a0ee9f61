import type { DiffSummary } from '../diff/diff-summary.ts'
import type { Ruling } from '../log/record.ts'
import type { Report } from '../report.ts'
import type { Candidate, CandidateOptions } from './candidate.ts'
import type { CandidateProgress, LiveProgress } from './follower.ts'

/** The parameters of a child process that derives a generation. */
export interface ChildOptions extends CandidateOptions {
  readonly directory: string
  /** The id of the engine's process. */
  readonly engine: number
  readonly checkpointRows: number
  readonly derivationMs: number
  /** Whether every record is derived twice and compared. */
  readonly checked: boolean
  /** Whether the log is in a carrier: then what is kept goes there, too. */
  readonly carried: boolean
}

/** Functions that the engine calls in the child process; see `Candidate`. */
export type ChildFunctions = Pick<
  Candidate,
  | 'setShare'
  | 'start'
  | 'pause'
  | 'caughtUp'
  | 'align'
  | 'save'
  | 'snapshot'
  | 'stopComparing'
  | 'correctAhead'
  | 'writeCorrections'
  | 'correct'
  | 'release'
> & {
  open(options: ChildOptions): Promise<void>
  /** @param options.lines whether to send the lines of all differences */
  compare(options: { readonly samples: number | undefined; readonly lines: boolean }): Promise<DiffSummary>
  close(): Promise<void>
}

/** Functions that the child process calls in the engine. */
export type EngineFunctions = {
  liveProgress(beyond: readonly number[] | undefined): Promise<LiveProgress>
  /** @returns the positions of the live generation, which has applied the ruling */
  rule(partition: number, ruling: Ruling): Promise<readonly number[]>
  keep(name: string, text: string): Promise<void>
  report(report: Report): void
  reportProgress(progress: CandidateProgress): void
  /** Takes lines of a diff; resolves when there is room for more. */
  takeLines(lines: readonly string[]): Promise<void>
}
