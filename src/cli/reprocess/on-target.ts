import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import type { HenceCommand } from '../command.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import type { ReprocessTarget } from './target.ts'

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
