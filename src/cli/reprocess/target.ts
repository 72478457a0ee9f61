import type { Diff, Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'

/** The engine that the commands act on: one that this process opens in a directory, or a server's. */
export interface ReprocessTarget {
  generations(): Promise<Generations>
  /** Starts a candidate with the code of a module, as its files are now. */
  start(app: string, options: { readonly share?: number; readonly again?: boolean }): Promise<ReprocessStatus>
  pause(): Promise<ReprocessStatus>
  resume(): Promise<ReprocessStatus>
  /** Returns the summary of a diff, with this many samples of each group. */
  diff(samples: number): Promise<Diff>
  /** Returns every difference as a line of JSON, in texts of any length, and the hash of the whole diff. */
  differences(): Promise<{ readonly lines: AsyncIterable<string>; readonly hash: string }>
  promote(
    approval: { readonly diff: string; readonly note?: string },
    options: { readonly requestId: string },
  ): Promise<Promotion>
  discard(): Promise<void>
  close(): Promise<void>
}
