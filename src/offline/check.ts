import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import type { Diff } from '../reprocess/reprocessing.ts'
import { type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { recordsIn, snapshotConsistently } from './data-snapshot.ts'
import { deriveTwice } from './derive-twice.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'
import type { RequestJudges } from './request-judges.ts'
import { type BusyKey, type SchemaFit, SchemaFits } from './schema-fits.ts'
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
  /**
   * How stored values fit the schemas of the new code: messages by type and version; after `dryRun` also the
   * rows, waiting effects, results of effects and timers that the code in force derives. New code gets stored
   * values as they are: nothing validates them again.
   */
  readonly schemas: readonly SchemaFit[]
  /** Partition keys that more than half of the messages of a type have: each is one queue. */
  readonly busyKeys: readonly BusyKey[]
  /** By request: whose verdict it waits for. Empty for an app without constraints. */
  readonly judges: readonly RequestJudges[]
}

/** The result of `dryRun`. */
export interface DryRun extends Check {
  /** How many derivations of the new code threw. Left out, as the diff is, when there are unreadable requests. */
  readonly failures?: number
  /** The differences between both derivations. */
  readonly diff?: Diff
}

/**
 * Checks whether new code can read a log: decodes every record, compares the type and version of each request
 * with those that the code knows, and holds messages against its schemas. It changes nothing and derives
 * nothing; see `dryRun`.
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
  if (read.unknown.length > 0) return checked(read)
  const { data, app, samples = 5, each } = options
  const { snapshot, survey, fits } = read
  const work = options
  const { status, diff } = await deriveTwice({ data, snapshot, survey, app, samples, each, work, fits })
  return { ...checked(read), failures: status.failures, diff }
}

interface ReadForCode {
  readonly snapshot: LogSnapshot
  readonly survey: Survey
  readonly unknown: readonly MessageCount[]
  readonly fits: SchemaFits
}

async function readFor(options: CheckOptions): Promise<ReadForCode> {
  const { data, records, until } = options
  // First: code that does not build need not be compared with anything.
  const program = sandboxed(await bundleApp(options.app))
  const fits = new SchemaFits(program, options.signal)
  const { snapshot, ends } = await snapshotConsistently(data)
  const isPart = records !== undefined || until !== undefined
  const step = beginStep(options, 'read', 'records', isPart ? undefined : recordsIn(snapshot))
  const surveyed = await survey(logOfSnapshot(snapshot, ends), { records, until }, step, fits)
  return { snapshot, survey: surveyed, unknown: unreadable(surveyed.messages, program.app), fits }
}

function checked({ survey, unknown, fits }: ReadForCode): Check {
  const { records, bytes, until, isPart, messages } = survey
  const { all: schemas, busyKeys, judges } = fits
  return { records, bytes, until, isPart, messages, unreadable: unknown, schemas, busyKeys, judges }
}
