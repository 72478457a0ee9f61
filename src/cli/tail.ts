import type { KeyPart } from '../app/index.ts'
import { Exchange } from '../client/exchange.ts'
import { type Followed, follow } from '../client/subscription.ts'
import { systemClock } from '../clock.ts'
import { type ServiceOptions, serverOptions } from './address.ts'
import { command, jsonOption, runs } from './command.ts'
import { changeText } from './explain.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print } from './terminal/output.ts'
import { stopSignal } from './terminal/stop-signal.ts'

/** `hence tail`: changed rows as they come. */
export function tailCommand() {
  const tail = command('tail', 'print the changes of tables as they come, until it is stopped', [
    'hence tail',
    'hence tail orders products --json',
  ]).argument('[tables...]', 'these tables only')
  return serverOptions(tail)
    .addOption(jsonOption())
    .action(
      runs(async (tables: readonly string[], options: ServiceOptions, _command: unknown) =>
        printChanges(options, { tables }),
      ),
    )
}

/** Prints changes until a signal ends it, across lost connections. */
export async function printChanges(
  { url, key, json }: ServiceOptions,
  followed: Followed & { readonly prefix?: readonly KeyPart[] },
): Promise<number> {
  const stop = stopSignal()
  const ended = Promise.withResolvers<never>()
  let opened = 0
  const heard = {
    anew() {
      // Whoever starts something now to see its changes can rely on this line.
      if (opened++ === 0)
        note(json ? JSON.stringify({ following: url }) : `Follower ${url}. Press Ctrl-C to stop.`)
      else
        note(
          json
            ? JSON.stringify({ missed: true })
            : 'The connection was lost for long, and changes were missed.',
        )
    },
    changes(changes: Parameters<Parameters<typeof follow>[1]['changes']>[0]) {
      for (const change of changes) {
        void print(
          json ? JSON.stringify(change) : `${changeText(change)} ${paint.faint(`at ${change.token}`)}`,
        )
      }
    },
    ended: ended.reject,
  }
  const exchange = new Exchange({ url, ...(key !== undefined && { key }) })
  const backoff = { firstMs: 50, mostMs: 5_000 }
  const following = follow(followed, heard, {
    exchange,
    backoff,
    clock: systemClock,
    random: Math.random,
    signal: stop.signal,
  })
  await Promise.race([following, ended.promise])
  return exitCode.ok
}
