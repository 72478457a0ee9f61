import { InvalidArgumentError, Option } from 'commander'
import { publishToFile, publishToWebhook } from '../audit/publish.ts'
import type { Publish } from '../audit/publisher.ts'
import { createEngine } from '../engine/open-engine.ts'
import { HenceError } from '../failure.ts'
import { loadApp, loadHandlers } from '../offline/app-module.ts'
import type { Report } from '../report.ts'
import { command, jsonOption, runs } from './command.ts'
import { checkHost, type ServeOptions, serve, serveOptions } from './serve.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print, printReport } from './terminal/output.ts'
import { stopSignal } from './terminal/stop-signal.ts'

/** `hence start`: runs an app. */
export function startCommand() {
  const start = command('start', 'run an app: its engine, and a server in front of it', [
    'hence start shop.ts',
    'hence start shop.ts --data /var/lib/shop --partitions 8 --host 0.0.0.0 --port 80',
    'hence start shop.ts --handlers handlers.ts         sends the e-mails that the app asks for',
    'hence start shop.ts --wait                         a deploy: takes over when the old process has drained',
    'hence start shop.ts --on-code-change continue       new code derives what comes from here on',
  ]).argument('<app>', 'the module that exports the app, such as shop.ts')
  return serveOptions(start)
    .option('--wait', 'wait until another process releases the data directory, then take over')
    .option('--audit', 'sign tree heads of the log, at least every second; receipts need them')
    .option(
      '--publish <file-or-url>',
      'with --audit: show each to somebody else, by adding it to a file or posting it; may be given again',
      (target: string, before: readonly string[] = []) => [...before, target],
    )
    .addOption(
      new Option('--publish-secret <secret>', 'what posts are signed with; better in the environment').env(
        'HENCE_PUBLISH_SECRET',
      ),
    )
    .option('--check', 'derive every record twice and compare, as `hence dev` does')
    .addOption(
      new Option(
        '--on-code-change <what>',
        'when the code is not the one in force: refuse; continue what is derived with it; or derive everything again and promote that',
      )
        .choices(['refuse', 'continue', 'reprocess'])
        .default('refuse'),
    )
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nSIGTERM or SIGINT: takes nothing more, finishes what it took, saves, ends with 0. A second one ends it at once.',
    )
    .action(runs(start_))
}

interface StartOptions extends ServeOptions {
  readonly wait?: true
  readonly check?: true
  readonly audit?: true
  readonly publish?: readonly string[]
  readonly publishSecret?: string
  readonly onCodeChange: 'refuse' | 'continue' | 'reprocess'
}

async function start_(path: string, options: StartOptions, _command: unknown): Promise<number> {
  const { data, partitions, handlers, wait, check, audit, onCodeChange, json } = options
  const publish = publications(options)
  const stop = stopSignal()
  const startedAt = performance.now()
  const stopped = Promise.withResolvers<void>()
  let code: number = exitCode.ok
  const tell = printReport(json === true)
  const report = (report: Report) => {
    tell(report)
    // Nothing is taken any more, so there is nothing to stay for: whoever runs this may start it again.
    if (report.code === 'engine-stopped') {
      code = exitCode.operator
      stopped.resolve()
    }
  }
  await checkHost(options)
  const { app, module } = await loadApp(path)
  const opening = createEngine({
    app,
    module,
    data,
    onCodeChange,
    report,
    signal: stop.signal,
    ...(partitions !== undefined && { partitions }),
    ...(handlers !== undefined && { handlers: await loadHandlers(handlers) }),
    ...(wait && { wait }),
    ...(check && { check }),
    ...(audit && { audit: publish.length > 0 ? { publish } : audit }),
  })
  // A signal that ends the waiting for the directory is a stop as good as any.
  const engine = await opening.catch((error) => {
    if (error === stop.signal.reason) return undefined
    throw error instanceof HenceError && error.code === 'code-changed' ? whatToRun(error, path, data) : error
  })
  if (engine === undefined) return exitCode.ok
  try {
    const served = await serve(engine, options, report)
    try {
      const { applied, version } = engine.stats()
      const ms = Math.round(performance.now() - startedAt)
      const records = applied.reduce((sum, n) => sum + n, 0)
      if (json) {
        await print(
          JSON.stringify({
            listening: served.url,
            app: app.name,
            version,
            partitions: applied.length,
            records,
            pid: process.pid,
          }),
        )
      } else {
        await print(`${paint.strong(app.name)} listens on ${paint.strong(served.url)}`)
        note(`${records} records in ${data}, ready after ${ms} ms. Press Ctrl-C to stop.`)
      }
      await Promise.race([stop.asked, stopped.promise])
    } finally {
      await served.close()
    }
  } finally {
    await engine.close()
  }
  return code
}

/** Who is shown the heads. */
function publications({ audit, publish = [], publishSecret }: StartOptions): Publish[] {
  if (publish.length > 0 && !audit) throw new InvalidArgumentError('--publish takes --audit, which signs.')
  return publish.map((target) => {
    if (!/^https?:/i.test(target)) return publishToFile(target)
    if (publishSecret === undefined) {
      throw new InvalidArgumentError(
        'HENCE_PUBLISH_SECRET is missing: what posts are signed with, base64, such as "whsec_MfKQ9r8GKYqrTwjU".',
      )
    }
    // Several stand there while a receiver changes from one to another.
    return publishToWebhook({ url: target, secret: publishSecret.split(/\s+/).filter(Boolean) })
  })
}

/** A refusal that can be acted on by copying a line. */
function whatToRun(error: HenceError, path: string, data: string): HenceError {
  const [app, directory] = [path, data].map(shellWord)
  return new HenceError(
    'code-changed',
    'change',
    `${error.message}
To see what the new code would derive differently, and then make it live:
  hence reprocess run ${app} --data ${directory}
  hence reprocess diff --data ${directory}
  hence reprocess promote --data ${directory} --diff HASH
To leave what is derived as it is, and derive what comes from here on with the new code:
  hence start ${app} --data ${directory} --on-code-change continue`,
    { cause: error },
  )
}

function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
