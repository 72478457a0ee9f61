import type { Command } from 'commander'
import type { Diff, Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'
import { embeddedOptions, serverOptions } from '../address.ts'

/** What the commands work on: a directory that is opened here, or a server. */
export interface Reach {
  generations(): Promise<Generations>
  /** Begins with the code of a module, as its files are now. */
  start(module: string, options: StartOptions): Promise<ReprocessStatus>
  pause(): Promise<ReprocessStatus>
  resume(): Promise<ReprocessStatus>
  /** Counts, and so many samples of each group. */
  diff(samples: number): Promise<Diff>
  /** Every difference as a line of JSON, and the hash of the diff that they make up. */
  differences(): Promise<{ readonly lines: ReadableStream<Uint8Array>; readonly hash: string }>
  promote(
    approval: { readonly diff: string; readonly note?: string },
    options: { readonly requestId: string },
  ): Promise<Promotion>
  discard(): Promise<void>
  close(): Promise<void>
}

export interface StartOptions {
  readonly share?: number
  readonly again?: boolean
}

/** Adds the options that say where the generations are. */
export function reachOptions(command: Command): Command {
  return embeddedOptions(serverOptions(command))
}
