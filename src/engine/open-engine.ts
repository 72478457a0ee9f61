import type { App } from '../app/index.ts'
import { systemClock } from '../clock.ts'
import { changeError, HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { Codes } from '../generation/codes.ts'
import { Alarms, type Report, reporterOf } from '../report.ts'
import { type AppBundle, bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { makeReserve } from '../storage/reserve.ts'
import { openDirectory, type Storage } from '../storage/storage.ts'
import type { Engine, EngineOptions } from './engine.ts'
import { startEngine } from './start.ts'

/**
 * Opens an engine: recovers the log, restores the last checkpoint, derives the records after it, and is
 * ready.
 *
 * @throws HenceError `data-in-use` (retry); `partitions-mismatch`, `code-changed`, `code-not-kept`,
 *   `table-shape-changed`, `take-over-incomplete`, `bundle-failed`, `option-invalid` (change); `log-damaged`,
 *   `log-shorter-than-state`, `state-of-another-log`, `state-unreadable`, `divergence`, `unknown-message`,
 *   `data-unusable`, `file-misplaced`, `file-unusable` (operator); with `log`, also the errors of opening it
 */
export async function createEngine<A extends App>(options: EngineOptions<A>): Promise<Engine<A>> {
  checkOptions(options ?? {})
  const { app, data, log, address, partitions, wait, signal, clock = systemClock } = options
  const alarms = new Alarms()
  const report = alarms.keeping(reporterOf(options.report), clock)
  const runtime = ['bun', 'deno'].find((name) => name in process.versions)
  if (runtime !== undefined) report(withoutLimits(runtime))
  const code = await bundleApp(app)
  // Code that does not load touches nothing.
  const program = sandboxed(code)
  for (;;) {
    let storage: Storage | undefined
    try {
      storage =
        typeof data === 'string'
          ? await openDirectory({
              directory: data,
              partitions,
              clock,
              report,
              wait,
              signal,
              carrier: log,
              address,
            })
          : data
      const codes = await Codes.open(code, program, storage)
      const engine = await startEngine({ ...options, report }, codes, storage, alarms)
      if (typeof data === 'string') makeReserve(data)
      return engine
    } catch (error) {
      // The first error says why; what fails after it does too.
      await storage?.close().catch(() => {})
      // Of two processes that wait, one is first, and the other follows that one.
      const goesOn = wait && error instanceof HenceError && error.code === 'log-taken'
      if (!goesOn) throw fileFailure(error) ?? error
    }
  }
}

const codeChanges: readonly unknown[] = [
  'refuse',
  'continue',
  'reprocess',
] satisfies EngineOptions<App>['onCodeChange'][]

/** For plain JavaScript, which has no types: without these checks a wrong option fails far from here. */
function checkOptions(options: EngineOptions<App>): void {
  const { app, data, onCodeChange = 'refuse', partitions, windowMs, queueBytesMax, checkpointRows } = options
  const isBundle = (given: unknown) => typeof (given as Partial<AppBundle> | undefined)?.code === 'string'
  if (!(typeof app === 'string' || app instanceof URL || isBundle(app)))
    throw invalid(
      "`app` must be the path or file URL of the app's module, for example import.meta.resolve('./shop.ts'), " +
        'or what `bundleApp` returned',
    )
  if (typeof data !== 'string' && data?.log === undefined)
    throw invalid(
      '`data` must be the path of a directory, for example "data", which is made if it is missing',
    )
  if (options.log !== undefined && (typeof data !== 'string' || typeof options.log?.append !== 'function'))
    throw invalid(
      '`log` must be a carrier, for example of `postgresLog`, and `data` then the path of a directory',
    )
  if (!codeChanges.includes(onCodeChange))
    throw invalid(
      `\`onCodeChange\` must be one of ${codeChanges.join(', ')}, not ${JSON.stringify(onCodeChange)}`,
    )
  checkNumber('partitions', partitions, 1, 1024)
  checkNumber('windowMs', windowMs, 60_000, Number.MAX_SAFE_INTEGER)
  checkNumber('queueBytesMax', queueBytesMax, 1, Number.MAX_SAFE_INTEGER)
  checkNumber('checkpointRows', checkpointRows, 1, 10_000_000)
  checkNumber('derivationMs', options.derivationMs, 10, 86_400_000)
}

/** Only Node can end a function of the app that does not return. */
function withoutLimits(runtime: string): Report {
  return {
    level: 'warning',
    code: 'runtime-without-limits',
    message:
      `This process runs on ${runtime}: a derivation that does not end stops it for good, and records derived ` +
      'here may be derived differently on Node. Develop on it if you like; run production on Node.',
  }
}

function checkNumber(name: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return
  throw invalid(`\`${name}\` must be a whole number from ${min} to ${max}, not ${value}`)
}

const invalid = (what: string) =>
  changeError('option-invalid', `createEngine was called with an invalid option: ${what}.`)
