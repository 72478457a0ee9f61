import type { App } from '../app/index.ts'
import { systemClock } from '../clock.ts'
import { changeError } from '../failure.ts'
import { Alarms, reporterOf } from '../report.ts'
import { windowMsDefault } from '../request/window.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import type { EngineOptions } from './engine.ts'

/** The options of an engine, with their defaults. */
export type Settings = ReturnType<typeof settingsOf>

/** @throws HenceError `option-invalid` (change) */
export function settingsOf(options: EngineOptions<App>) {
  checkOptions(options ?? {})
  const { clock = systemClock, random = Math.random, onCodeChange = 'refuse', audit = false } = options
  const { check = false, wait = false, confirmClock = false } = options
  const { windowMs = windowMsDefault, checkpointRows = 20_000 } = options
  const { queueBytesMax = 64 * 1024 * 1024, waitingBytesMax = 1024 * 1024 * 1024 } = options
  const alarms = new Alarms()
  const report = alarms.keeping(reporterOf(options.report), clock)
  return {
    ...options,
    ...{ clock, random, onCodeChange, audit, check, wait, confirmClock, windowMs, checkpointRows },
    ...{ queueBytesMax, waitingBytesMax, alarms, report },
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
  checkNumber('waitingBytesMax', options.waitingBytesMax, 1, Number.MAX_SAFE_INTEGER)
  checkNumber('checkpointRows', checkpointRows, 1, 10_000_000)
  checkNumber('derivationMs', options.derivationMs, 10, 86_400_000)
}

function checkNumber(name: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return
  throw invalid(`\`${name}\` must be a whole number from ${min} to ${max}, not ${value}`)
}

const invalid = (what: string) =>
  changeError('option-invalid', `createEngine was called with an invalid option: ${what}.`)
