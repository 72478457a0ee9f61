import type { Command } from 'commander'
import type { Diff, Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'
import type { ServiceOptions } from '../address.ts'
import type { HenceCommand } from '../command.ts'
import { stopSignal } from '../terminal/stop-signal.ts'

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

/**
 * Adds the options that name the target, and an action, while which the target is open. With `--data` alone
 * this process opens the directory; with `--data` and `--url` the server does the work, and the directory is
 * where new code is put.
 * @param stops whether SIGINT and SIGTERM abort the signal that the action gets, from before the target is
 *   opened, instead of ending the process
 */
export function onTarget<Options extends ServiceOptions, Args extends unknown[]>(
  command: HenceCommand,
  act: (
    target: ReprocessTarget,
    options: Options,
    signal: AbortSignal,
    ...args: Args
  ) => Promise<number | undefined>,
  stops = false,
): HenceCommand {
  return command
    .engine()
    .json()
    .runs(async (...given: unknown[]) => {
      const [options, self] = given.slice(-2) as [Options, Command]
      const isLocal = options.data !== undefined && self.getOptionValueSource('url') !== 'cli'
      const { signal } = stops ? stopSignal() : new AbortController()
      // Imported when needed, because the engine is large and a client of a server does not need it.
      const target = isLocal
        ? await (await import('./local-target.ts')).localTarget(options, options.data)
        : (await import('./http-target.ts')).httpTarget(options)
      try {
        return await act(target, options, signal, ...(given.slice(0, -2) as Args))
      } finally {
        await target.close()
      }
    })
}
