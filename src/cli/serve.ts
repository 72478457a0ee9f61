import { stat } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import type { Reporter } from '../report.ts'
import { server } from '../server/index.ts'
import { checkUnguarded } from '../server/server.ts'
import { portDefault } from './address.ts'
import { wholeNumber } from './command.ts'
import { keysFile } from './keys.ts'

/** The options of the commands that serve an app. */
export interface ServeOptions {
  readonly data: string
  readonly port: number
  readonly host: string
  readonly partitions?: number
  /** The module of the handlers that run the app's effects. */
  readonly handlers?: string
  readonly json?: true
}

export function serveOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--data <directory>', 'the data directory: the log and everything derived from it').default(
        'data',
      ),
    )
    .addOption(
      new Option('--port <number>', 'the port to listen on; 0: any free port')
        .env('PORT')
        .default(portDefault)
        .argParser(wholeNumber),
    )
    .addOption(
      new Option(
        '--host <address>',
        'the address to listen on; one that other machines reach requires an API key',
      ).default('127.0.0.1'),
    )
    .option(
      '--handlers <module>',
      "the module that runs the app's effects; without it they are stored and not delivered",
    )
    .addOption(
      new Option('--partitions <number>', 'the number of partitions of a new log (default: 1)').argParser(
        wholeNumber,
      ),
    )
}

/** A server that listens. */
export interface Served {
  readonly url: string
  close(): Promise<void>
}

/** How long a predecessor may take to release the port after it has released the directory. */
const portWaitMs = 5_000

/**
 * Refuses an unsafe address before anything is created or opened.
 * @throws HenceError `listen-unsafe` (change)
 */
export async function checkHost({ data, host }: ServeOptions): Promise<void> {
  if ((await keysOf(data)) === undefined) checkUnguarded(host)
}

/** The file of the API keys, if it exists. */
async function keysOf(data: string): Promise<string | undefined> {
  const file = keysFile(data)
  return await stat(file).then(
    () => file,
    () => undefined,
  )
}

/**
 * Serves an engine. If the data directory has API keys, they are required; else only this machine is served.
 */
export async function serve(
  engine: Engine<App>,
  { data, port, host, handlers }: ServeOptions,
  report: Reporter,
): Promise<Served> {
  const { name, effects } = engine.app
  if (effects.size > 0 && handlers === undefined) {
    report({
      level: 'warning',
      code: 'effects-not-delivered',
      message: `The effects of "${name}" (${[...effects.keys()].join(', ')}) are stored and not delivered: give --handlers.`,
    })
  }
  const keys = await keysOf(data)
  const web = server(engine, { report, ...(keys && { keys }) })
  const deadline = performance.now() + portWaitMs
  for (;;) {
    try {
      const { url } = await web.listen({ port, host })
      return { url, close: () => web.close() }
    } catch (error) {
      const taken = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'EADDRINUSE'
      if (!taken || performance.now() > deadline) {
        await web.close()
        throw error
      }
      await pause(20)
    }
  }
}
