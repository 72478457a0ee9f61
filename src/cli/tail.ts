import type { KeyPart, TableChange } from '../app/index.ts'
import { Exchange } from '../client/exchange.ts'
import { follow } from '../client/subscription.ts'
import { systemClock } from '../clock.ts'
import { command, keyParts, type ServiceOptions } from './command.ts'
import { changeText } from './explain.ts'
import { note, paint, printResult } from './terminal/output.ts'
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
  const say = (fact: object, text: string) => note(json ? JSON.stringify(fact) : text)
  const listener = {
    anew() {
      // After this line, no change is missed.
      if (opened++ === 0) say({ following: url }, `Following ${url}. Press Ctrl-C to stop.`)
      else say({ missed: true }, 'The connection was lost for too long: changes were missed.')
    },
    changes(changes: readonly TableChange[]) {
      for (const each of changes)
        void printResult(json, each, `${changeText(each)} ${paint.faint(`at ${each.token}`)}`)
    },
    ended: ended.reject,
  }
  const exchange = new Exchange({ url, key })
  const backoff = { firstMs: 50, mostMs: 5_000 }
  const asking = { exchange, backoff, clock: systemClock, random: Math.random, signal: stop.signal }
  await Promise.race([follow({ tables, prefix }, listener, asking), ended.promise])
}
