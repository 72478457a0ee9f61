import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import type { Reach } from './reach.ts'

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
