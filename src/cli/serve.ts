import { stat } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { Option } from 'commander'
import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { changeError } from '../failure.ts'
import type { Report, Reporter } from '../report.ts'
import type { Server, StartingServer, server } from '../server/index.ts'
import { dataMeaning, type HenceCommand, portDefault, repeated, wholeNumber } from './command.ts'
import { keysFile } from './keys.ts'
import { exitCode } from './terminal/exit-code.ts'
import { printReport } from './terminal/output.ts'

export interface ServeOptions {
  readonly data: string
  readonly port: number
  readonly host: string
  readonly partitions?: number
  readonly handlers?: string
  readonly views?: readonly string[]
  /** Without API keys everybody on this machine may do everything. */
  readonly open?: true
  readonly json?: true
}

export function serveOptions(command: HenceCommand): HenceCommand {
  return command
    .option('--data <directory>', dataMeaning, 'data')
    .addOption(
      new Option('--port <number>', 'the port to listen on; 0: any free port')
        .env('PORT')
        .default(portDefault)
        .argParser(wholeNumber),
    )
    .option(
      '--host <address>',
      'the address to listen on; one that other machines reach requires an API key',
      '127.0.0.1',
    )
    .option(
      '--handlers <module>',
      "the module that runs the app's effects; without it they are stored and not delivered",
    )
    .option('--views <module>', 'a module of views, derived beside the app; may be repeated', repeated)
    .option('--partitions <number>', 'the number of partitions of a new log (default: 1)', wholeNumber)
    .json()
}

export interface Served {
  readonly url: string
  close(): Promise<void>
}

/** How long a predecessor may take to release the port after it has released the directory. */
const portWaitMs = 5_000

/** How callers are authenticated: by the API keys of the data directory, if there are any. */
export async function guardOf({
  data,
  host,
  open,
}: ServeOptions): Promise<{ keys: string } | { open: true }> {
  const file = keysFile(data)
  // A file that cannot be read is there: the server refuses every key and says why.
  const isThere = await stat(file).then(
    () => true,
    (error) => error.code !== 'ENOENT',
  )
  if (isThere) return { keys: file }
  if (!open)
    throw changeError(
      'keys-missing',
      `There are no API keys in ${keysFile(data)}, and nothing was started. Make one:
  hence keys create NAME --data ${data} --permission submit read
or, for development, start with --open: then everybody on this machine may do everything.`,
    )
  const { checkUnguarded } = await import('../server/server.ts')
  checkUnguarded(host)
  return { open }
}

/** Reports as `printReport`; `stopped` resolves to the exit code when the engine accepts nothing more. */
export function engineReport(json: true | undefined) {
  const stopped = Promise.withResolvers<number>()
  const show = printReport(json)
  const report = (each: Report) => {
    show(each)
    // The process exits, so that a supervisor can start it again, unless a person must look first.
    if (each.code === 'engine-stopped')
      stopped.resolve(each.level === 'alarm' ? exitCode.operator : exitCode.tryAgain)
  }
  return { report, stopped: stopped.promise }
}

/** A server for callers that `guardOf` lets in. */
export async function serverOf(
  engine: Parameters<typeof server>[0],
  options: ServeOptions,
  report: Reporter,
): Promise<Server> {
  return (await import('../server/index.ts')).server(engine, { report, ...(await guardOf(options)) })
}

export async function serve(
  engine: Engine<App>,
  options: ServeOptions,
  report: Reporter,
  starting?: StartingServer,
): Promise<Served> {
  const { port, host, handlers } = options
  const { name, effects } = engine.app
  if (effects.size > 0 && handlers === undefined) {
    report({
      level: 'warning',
      code: 'effects-not-delivered',
      message:
        `The effects of "${name}" (${[...effects.keys()].join(', ')}) are stored and not ` +
        'delivered: give --handlers.',
    })
  }
  const web = await serverOf(engine, options, report)
  const deadline = performance.now() + portWaitMs
  for (;;) {
    try {
      const { url } = await web.listen({ port, host, ...(starting && { starting }) })
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
