import type { DiffSummary } from '../derivation/diff-summary.ts'
import type { Cut, Progress } from '../derivation/following.ts'
import type { Keys } from '../state/noting-store.ts'
import type { KeptCorrections, Live, OtherOptions, PromotionToCome } from './other.ts'

/** How a process is told to derive a generation. */
export interface Deriving extends OtherOptions {
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
export type DerivingCalls = {
  open(deriving: Deriving): Promise<void>
  start(): Promise<void>
  pause(): Promise<void>
  share(share: number | undefined): void
  caughtUp(): Promise<void>
  level(cut: Cut): Promise<{ isStill: boolean }>
  pass(ends: readonly number[]): Promise<void>
  save(isWhole: boolean): Promise<void>
  look(live: Live): Promise<void>
  sumUp(options: { readonly samples: number | undefined; readonly lines: boolean }): Promise<DiffSummary>
  /** Ends `sumUp`, which then throws. */
  stopSumUp(): void
  correctAhead(live: Live, changed: Keys | undefined): Promise<number>
  correct(live: Live, changed: Keys | undefined, promotion: PromotionToCome): Promise<KeptCorrections>
  unlook(): Promise<void>
  close(): Promise<void>
}

/** What the process that derives asks of the one of the engine. */
export type EngineCalls = {
  cut(than: readonly number[] | undefined): Promise<Cut>
  progress(progress: Progress): void
  /** Takes lines of a diff; resolves when there is room for more. */
  lines(lines: readonly string[]): Promise<void>
}
