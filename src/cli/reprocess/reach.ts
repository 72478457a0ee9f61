import type { Command } from 'commander'
import type { Diff, Promotion, ReprocessStatus } from '../../reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'
import { embeddedOptions, type ServiceOptions, serverOptions } from '../address.ts'

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

/**
 * Opens, works, and closes, however the work ends. With `--data` the directory is opened here; with `--url` beside it,
 * the work is the server's, and the directory is where the code of a new version is put.
 */
export async function withReach<T>(
  options: ServiceOptions,
  command: Command,
  work: (reach: Reach) => Promise<T>,
): Promise<T> {
  const isHere = options.data !== undefined && command.getOptionValueSource('url') !== 'cli'
  // The engine is large, and whoever asks a server needs none of it.
  const reach = isHere
    ? await (await import('./here.ts')).openHere(options, options.data)
    : (await import('./over-http.ts')).overHttp(options)
  try {
    return await work(reach)
  } finally {
    await reach.close()
  }
}
