import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import type { ReprocessTarget } from './target.ts'

/**
 * Opens the target of a command, runs the command, and closes the target in any case. With `--data` alone
 * this process opens the directory; with `--data` and `--url` the server does the work, and the directory is
 * where new code is put.
 */
export async function withTarget<T>(
  options: ServiceOptions,
  command: Command,
  act: (target: ReprocessTarget) => Promise<T>,
): Promise<T> {
  const isLocal = options.data !== undefined && command.getOptionValueSource('url') !== 'cli'
  // Imported when needed, because the engine is large and a client of a server does not need it.
  const target = isLocal
    ? await (await import('./local-target.ts')).localTarget(options, options.data)
    : (await import('./http-target.ts')).httpTarget(options)
  try {
    return await act(target)
  } finally {
    await target.close()
  }
}
