import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import { InvalidArgumentError, Option } from 'commander'
import type { App } from '../app/index.ts'
import { publishToFile } from '../audit/publisher.ts'
import type { Standby } from '../engine/engine.ts'
import type { StartProgress } from '../engine/start-pause.ts'
import { changeError, HenceError } from '../failure.ts'
import { loadHandlers } from '../offline/app-module.ts'
import { counted } from '../plain-text.ts'
import type { Reporter } from '../report.ts'
import { StartingServer } from '../server/starting.ts'
import { collectEarly } from './collect-early.ts'
import { command, repeated } from './command.ts'
import { carrierAt, logOption } from './log-carrier.ts'
import { engineReport, guardOf, type ServeOptions, serve, serveOptions, serverOf } from './serve.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, printResult } from './terminal/output.ts'
import { stopSignal } from './terminal/stop-signal.ts'

export function startCommand() {
  const start = command('start', 'run an app behind an HTTP server', [
    'hence start shop.ts --open                         without API keys, for this machine only',
    'hence start shop.ts --data /var/lib/shop --partitions 8 --host 0.0.0.0 --port 80',
    'hence start shop.ts --log postgres://hence@db/shop the log in PostgreSQL; --data has a copy of it',
    'hence start shop.ts --handlers handlers.ts         delivers the effects of the app',
    'hence start shop.ts --views views.ts               derives its views beside it',
    'hence start shop.ts --wait                         takes over when the old process has drained',
    'hence start shop.ts --on-code-change continue      new code derives the next records',
  ]).argument('<app>', 'the module that exports the app, for example shop.ts')
  return serveOptions(start)
    .addOption(logOption())
    .option(
      '--state <from>',
      'begin with a copy of the derived state, if there is none: a directory (`backup --state`), or the URL ' +
        'of another process of this log',
    )
    .addOption(new Option('--state-key <secret>', stateKeyMeaning).env('HENCE_STATE_KEY'))
    .option('--advertise <url>', 'with --log: where others reach this process; those that follow it say so')
    .option('--open', 'while the data directory has no API keys, let everybody on this machine do everything')
    .option('--wait', 'wait until another process releases the data directory, then take over')
    .option('--audit', 'sign tree heads of the log, at least every second; receipts require them')
    .option('--new-key', 'with --audit: make a new signing key if that of the data directory is lost')
    .option('--publish <file>', 'with --audit: append each head to this file; may be repeated', repeated)
    .option('--confirm-clock', 'the clock is right, although the log ends longer ago than ids are kept')
    .option('--check', 'derive every record twice and compare, as `hence dev` does')
    .addOption(
      new Option(
        '--on-code-change <what>',
        'if the code is not the version in force: refuse to start, continue from here with the new code, ' +
          'or derive everything again with it and promote that',
      )
        .choices(['refuse', 'continue', 'reprocess'])
        .default('refuse'),
    )
    .addHelpText(
      'after',
      '\nOn SIGTERM or SIGINT it accepts nothing more, finishes what it has accepted, saves, and exits ' +
        'with 0. A second signal\nends it at once.',
    )
    .runs(startApp)
}

const stateKeyMeaning = 'with --state of a URL: an API key with the permission admin'

interface StartOptions extends ServeOptions {
  readonly log?: string
  readonly advertise?: string
  readonly state?: string
  readonly stateKey?: string
  readonly wait?: true
  readonly check?: true
  readonly audit?: true
  readonly newKey?: true
  readonly publish?: readonly string[]
  readonly confirmClock?: true
  readonly onCodeChange: 'refuse' | 'continue' | 'reprocess'
}

async function startApp(path: string, options: StartOptions): Promise<number> {
  const { data, log, handlers, views, audit, newKey, json, publish: files = [] } = options
  const { partitions, wait, check, confirmClock, state, stateKey, onCodeChange } = options
  collectEarly(100)
  if (files.length > 0 && !audit)
    throw new InvalidArgumentError('--publish requires --audit, which signs the heads.')
  const stop = stopSignal()
  const startedAt = performance.now()
  const { report, stopped } = engineReport(json)
  await guardOf(options)
  const carrier = log === undefined ? undefined : await carrierAt(log)
  const { createEngine } = await import('../engine/open-engine.ts')
  const loaded = await loadHandlers(handlers)
  const early = earlyServer(options)
  // A new directory has no predecessor that still has the port, and is not made in vain.
  if (!existsSync(data)) await early.listen()
  const opening = createEngine({
    app: path,
    ...{ data, partitions, wait, check, confirmClock, state, stateKey, onCodeChange, report },
    signal: stop.signal,
    stopping: stop.signal,
    progress: (progress) => early.progress(progress),
    standby: (standby) => void early.serve(standby, report),
    ...(carrier && { log: carrier, wait: true, address: addressOf(options) }),
    handlers: loaded,
    ...(views && { views }),
    audit: audit ? { publish: files.map(publishToFile), newKey: newKey === true } : false,
  })
  // A signal while it waits for the directory is an ordinary stop.
  const engine = await opening.catch(async (error) => {
    await early.close()
    if (error === stop.signal.reason) return undefined
    throw error instanceof HenceError && error.code === 'code-changed'
      ? withCommands(error, path, data)
      : error
  })
  if (engine === undefined) return exitCode.ok
  try {
    const served = await serve(engine, options, report, await early.open())
    try {
      const { url } = served
      const { name: app } = engine.app
      const { applied, version } = engine.stats()
      const ms = Math.round(performance.now() - startedAt)
      const records = applied.reduce((sum, n) => sum + n, 0)
      const facts = { listening: url, app, version, partitions: applied.length, records, pid: process.pid }
      await printResult(json, facts, `${paint.strong(app)} listens on ${paint.strong(url)}`)
      if (!json) {
        note(
          `${counted(records, 'record')} in ${data}, ready after ${ms} ms. The console is at ${url}/console.`,
        )
        note('Press Ctrl-C to stop.')
      }
      return await Promise.race([stop.asked.then(() => exitCode.ok), stopped])
    } finally {
      await served.close()
    }
  } finally {
    await engine.close()
  }
}

/** Where others reach the server, as those that follow it say. */
function addressOf({ advertise, host, port }: StartOptions): string {
  return advertise ?? `http://${host === '0.0.0.0' || host === '::' ? hostname() : host}:${port}`
}

/** How often a start that derives says how far it is, in milliseconds. */
const sayMs = 2_000

/** Listens, and says how far the start is, from the moment that it begins to derive. */
function earlyServer(options: ServeOptions) {
  const server = new StartingServer()
  let opening: Promise<StartingServer | undefined> | undefined
  let saidAt = performance.now()
  /** The process that is active, while this one waits. */
  let followed: string | undefined
  /** Whether it has caught up with that process once. */
  let isWarm = false
  const listen = () => {
    opening = server.listen(options.port, options.host).then(() => server)
    return opening
  }
  return {
    listen,
    progress(progress: StartProgress): void {
      const { derived, of, follows } = progress
      server.progress(progress)
      // A predecessor may still have the port; `serve` waits for it.
      opening ??= listen().catch(() => undefined)
      if (follows !== followed && follows !== undefined) {
        const text = `Following ${follows}, which is active. Takes over when it ends.`
        // A script that reads this line may send a request next.
        void opening.then(() => note(text))
      }
      followed = follows
      if ((follows !== undefined && isWarm) || performance.now() - saidAt < sayMs) return
      saidAt = performance.now()
      note(`${follows === undefined ? 'Starting' : 'Following'}: ${derived} of ${of} records are derived.`)
    },
    async serve(standby: Standby<App>, report: Reporter): Promise<void> {
      isWarm = true
      note('It has caught up, and serves reads.')
      server.serve(await serverOf(standby, options, report))
    },
    /** The server that listens already, if there is one. */
    open: async () => opening,
    async close(): Promise<void> {
      await (await opening)?.close()
    },
  }
}

/** Adds the commands to choose from, ready to copy. */
function withCommands(error: HenceError, path: string, data: string): HenceError {
  const [app, directory] = [path, data].map(shellWord)
  return changeError(
    'code-changed',
    `${error.message}
To see what the new code derives differently, and then make it live:
  hence reprocess run ${app} --data ${directory}
  hence reprocess diff --data ${directory}
  hence reprocess promote --data ${directory} --diff HASH
To keep everything derived so far, and derive the next records with the new code:
  hence start ${app} --data ${directory} --on-code-change continue`,
    { cause: error },
  )
}

function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
