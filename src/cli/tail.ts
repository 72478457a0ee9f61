import type { KeyPart } from '../app/index.ts'
import { Exchange } from '../client/exchange.ts'
import { follow } from '../client/subscription.ts'
import { systemClock } from '../clock.ts'
import { command, keyParts, type ServiceOptions } from './command.ts'
import { changeText } from './explain.ts'
import { note, paint, print } from './terminal/output.ts'
import { stopSignal } from './terminal/stop-signal.ts'

interface TailOptions extends ServiceOptions {
  readonly prefix?: readonly KeyPart[]
}

export function tailCommand() {
  return command('tail', 'print changes of tables as they happen, until stopped', [
    'hence tail',
    'hence tail orders products --json',
    'hence tail orders --prefix mug                      only rows under a key',
  ])
    .argument('[tables...]', 'only these tables (default: all)')
    .option('--prefix <parts>', 'only rows whose key begins with this: a text, or a JSON list', keyParts)
    .server()
    .json()
    .runs(printChanges)
}

/** Prints changes until a signal stops it; reconnects when the connection is lost. */
async function printChanges(
  tables: readonly string[],
  { url, key, json, prefix }: TailOptions,
): Promise<undefined> {
  const stop = stopSignal()
  const ended = Promise.withResolvers<never>()
  let opened = 0
  const listener = {
    anew() {
      // After this line, no change is missed.
      if (opened++ === 0)
        note(json ? JSON.stringify({ following: url }) : `Following ${url}. Press Ctrl-C to stop.`)
      else
        note(
          json
            ? JSON.stringify({ missed: true })
            : 'The connection was lost for too long: changes were missed.',
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
  const exchange = new Exchange({ url, key })
  const backoff = { firstMs: 50, mostMs: 5_000 }
  const following = follow({ tables, prefix }, listener, {
    exchange,
    backoff,
    clock: systemClock,
    random: Math.random,
    signal: stop.signal,
  })
  await Promise.race([following, ended.promise])
}
