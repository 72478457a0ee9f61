import type { App } from '../app/index.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import type { Diff } from '../reprocess/reprocessing.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { recordsIn, snapshotConsistently } from './data-snapshot.ts'
import { deriveTwice } from './derive-twice.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'
import { type MessageCount, type Survey, survey, unreadable } from './survey.ts'

export interface CheckOptions extends LongWork {
  /** The data directory, or a backup. A process may have it open. */
  readonly data: string
  /** The new code: the path or file URL of its pure module, or a bundle. */
  readonly app: AppSource
  /** Reads about so many of the first records only. */
  readonly records?: number | undefined
  /** Reads only records up to this log time, in milliseconds since 1970. */
  readonly until?: number | undefined
}

export interface DryRunOptions extends CheckOptions {
  /** How many differences of each kind the diff shows. Default 5. */
  readonly samples?: number | undefined
  /** Called with every difference as a line of JSON, in order. It may return a promise to wait for. */
  readonly each?: ((line: string) => unknown) | undefined
}

/** The result of `check`. */
export interface Check {
  /** How many records were read, and their size. */
  readonly records: number
  readonly bytes: number
  /** The log time of the last one, in milliseconds since 1970; 0 without one. */
  readonly until: number
  /** Whether the log holds more. */
  readonly isPart: boolean
  /** Requests and events by type and version. */
  readonly messages: readonly MessageCount[]
  /** The requests among them whose type or version the new code does not know. */
  readonly unreadable: readonly MessageCount[]
}

/** The result of `dryRun`. */
export interface DryRun extends Check {
  /** How many derivations of the new code threw. Left out, as the diff is, when there are unreadable requests. */
  readonly failures?: number
  /** The differences between both derivations. */
  readonly diff?: Diff
}

/**
 * Checks whether new code can read a log: decodes every record, and compares the type and version of each
 * request with those that the code knows. It changes nothing and derives nothing; see `dryRun`.
 * @throws HenceError `no-log`, `bundle-failed` (change), `log-damaged`, `record-unreadable` (operator)
 */
export async function check(options: CheckOptions): Promise<Check> {
  return checked(await readFor(options))
}

/**
 * Checks whether new code can read a log, then derives its records by the code in force and by the new code,
 * and compares both. It works in a temporary directory (in `TMPDIR`) and changes nothing in the data
 * directory.
 * @throws HenceError what `check` throws; `code-not-kept` (change) where the code in force is not kept; the
 *   error that stopped the new code (operator)
 */
export async function dryRun(options: DryRunOptions): Promise<DryRun> {
  const read = await readFor(options)
  const result = checked(read)
  if (read.unknown.length > 0) return result
  const { data, app, samples = 5, each } = options
  const { snapshot, survey } = read
  const { status, diff } = await deriveTwice({ data, snapshot, survey, app, samples, each, work: options })
  return { ...result, failures: status.failures, diff }
}

export interface ReadForCode {
  readonly app: App
  /** The version of the new code. */
  readonly version: string
  readonly snapshot: LogSnapshot
  readonly ends: readonly number[] | undefined
  readonly survey: Survey
  readonly unknown: readonly MessageCount[]
}

/** Loads new code, then reads a log with it in mind. */
export async function readFor(options: CheckOptions): Promise<ReadForCode> {
  const { data, records, until } = options
  // First: code that does not build need not be compared with anything.
  const code = await bundleApp(options.app)
  const { app } = sandboxed(code)
  const { snapshot, ends } = await snapshotConsistently(data)
  const isPart = records !== undefined || until !== undefined
  const step = beginStep(options, 'read', 'records', isPart ? undefined : recordsIn(snapshot))
  const surveyed = await survey(logOfSnapshot(snapshot, ends), { records, until }, step)
  const unknown = unreadable(surveyed.messages, app)
  return { app, version: code.hash, snapshot, ends, survey: surveyed, unknown }
}

function checked({ survey, unknown }: ReadForCode): Check {
  const { records, bytes, until, isPart, messages } = survey
  return { records, bytes, until, isPart, messages, unreadable: unknown }
}
