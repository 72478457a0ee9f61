import type { App } from '../app/index.ts'
import { systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { Codes } from '../generation/codes.ts'
import { printReport } from '../report.ts'
import { type Bundle, bundle } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { openDirectory, type Storage } from '../storage/storage.ts'
import type { Engine, EngineOptions } from './engine.ts'
import { startEngine } from './start.ts'

/**
 * Opens an engine: recovers the log, restores the last checkpoint, derives the records after it, and is ready.
 *
 * @throws HenceError `data-in-use` (retry); `partitions-mismatch`, `code-changed`, `code-not-kept`,
 *   `table-shape-changed`, `take-over-incomplete`, `bundle-failed`, `app-mismatch`, `option-invalid` (change); `log-damaged`,
 *   `log-shorter-than-state`, `state-of-another-log`, `state-unreadable`, `divergence`, `unknown-message`, `data-unusable` (operator)
 */
export async function createEngine<A extends App>(options: EngineOptions<A>): Promise<Engine<A>> {
  checkOptions(options ?? {})
  const { module } = options
  return openEngine(options, module === undefined ? undefined : await bundle(module))
}

/**
 * `createEngine` for code that is already bundled: the sources of a version that is kept may be gone.
 */
export async function openEngine<A extends App>(
  options: EngineOptions<A>,
  code: Pick<Bundle, 'code' | 'hash'> | undefined,
): Promise<Engine<A>> {
  const { app, data, partitions, wait, signal, clock = systemClock, report = printReport } = options
  if (code !== undefined) {
    const program = sandboxed(code)
    program.close()
    checkSameApp(app, program.app)
  }
  let storage: Storage | undefined
  try {
    storage =
      typeof data === 'string'
        ? await openDirectory({ directory: data, partitions, clock, report, wait, signal })
        : data
    return await startEngine(options, await Codes.open(options, code, storage), storage)
  } catch (error) {
    await storage?.close()
    throw error
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
  if (!(app?.requests instanceof Map && app.tables instanceof Map))
    throw invalid(
      '`app` must be what `app(name, { requests, tables })` returned, usually the default export of a module',
    )
  if (typeof data !== 'string' && data?.log === undefined)
    throw invalid(
      '`data` must be the path of a directory, for example "data", which is made if it is missing',
    )
  if (!codeChanges.includes(onCodeChange))
    throw invalid(
      `\`onCodeChange\` must be one of ${codeChanges.join(', ')}, not ${JSON.stringify(onCodeChange)}`,
    )
  checkNumber('partitions', partitions, 1, 1024)
  checkNumber('windowMs', windowMs, 60_000, Number.MAX_SAFE_INTEGER)
  checkNumber('queueBytesMax', queueBytesMax, 1, Number.MAX_SAFE_INTEGER)
  checkNumber('checkpointRows', checkpointRows, 1, 10_000_000)
}

function checkNumber(name: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return
  throw invalid(`\`${name}\` must be a whole number from ${min} to ${max}, not ${value}`)
}

function invalid(what: string): HenceError {
  return new HenceError(
    'option-invalid',
    'change',
    `createEngine was called with an invalid option: ${what}.`,
  )
}

/** Inputs are validated by the given app and derived by the bundled one, so both must be the same. */
function checkSameApp(given: App, loaded: App): void {
  const names = ({ name, requests, tables }: App) =>
    JSON.stringify([name, [...requests.keys()], [...tables.keys()]])
  if (names(given) === names(loaded)) return
  throw new HenceError(
    'app-mismatch',
    'change',
    `\`module\` exports the app "${loaded.name}", which is not the app "${given.name}" given as \`app\`: ` +
      'give the module that the app was imported from.',
  )
}
