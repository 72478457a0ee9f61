import { resolve } from 'node:path'
import { Readable } from 'node:stream'
import { Option } from 'commander'
import { snapshotConsistently } from '../offline/data-snapshot.ts'
import { type DryRun, dryRun } from '../offline/dry-run.ts'
import { logOfSnapshot } from '../offline/log-of-snapshot.ts'
import { type MessageCount, type Survey, survey, unreadable } from '../offline/survey.ts'
import { versionInForce } from '../offline/version-in-force.ts'
import { bundle } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { Spool } from '../server/spool.ts'
import { command, dataOption, logTime, runs, wholeNumber } from './command.ts'
import { type DiffOptions, formatDiff, formatOf, formatOptions, write } from './reprocess/diff.ts'
import { barText, count } from './reprocess/status-text.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint } from './terminal/output.ts'
import { Progress } from './terminal/progress.ts'
import { stopSignal } from './terminal/stop-signal.ts'

interface CheckOptions extends Pick<DiffOptions, 'format' | 'samples' | 'out' | 'json'> {
  readonly data: string
  readonly sample?: number
  readonly until?: number
  readonly failOn?: 'differences'
}

/** `hence check`: whether new code can read a log, and what would be another with it; for the checks before a merge. */
export function checkCommand() {
  const check = command(
    'check',
    'tell whether new code can read all of a log, and what it would derive differently; changes nothing',
    [
      'hence check shop.ts --data data',
      'hence check shop.ts --data /mnt/backup/2026-11-24 --sample 100000 --fail-on differences',
      'hence check shop.ts --data data --format markdown --out diff.md',
    ],
  )
    .argument('<app>', 'the module of the new code, such as shop.ts')
    .addOption(dataOption().makeOptionMandatory())
    .addOption(
      new Option('--sample <records>', 'only about so many records, the first ones').argParser(wholeNumber),
    )
    .option('--until <time>', 'only records up to this log time: ISO 8601, or milliseconds', logTime)
    .addOption(
      new Option('--fail-on <what>', `end with ${exitCode.differs} when anything differs`).choices([
        'differences',
      ]),
    )
  return formatOptions(check)
    .addHelpText(
      'after',
      `\nIt works in a temporary directory, and may run beside a running process. It ends with 0 when the log can be read, and
with ${exitCode.unreadable} when it holds requests of a type or version that the code does not know.`,
    )
    .action(runs(check_))
}

async function check_(path: string, options: CheckOptions, _command: unknown): Promise<number> {
  const { data, sample, until, failOn, samples, out } = options
  const module = resolve(path)
  const format = formatOf(options)
  const stop = stopSignal()
  // Before anything else: what does not build need not be compared with anything.
  const code = await bundle(module)
  const { app } = sandboxed(code)
  const progress = new Progress()
  const { snapshot, ends } = await snapshotConsistently(data)
  const bounds = { ...(sample !== undefined && { records: sample }), ...(until !== undefined && { until }) }
  const surveyed = await survey(logOfSnapshot(snapshot, ends), bounds, (records) =>
    progress.add('read', records, 'records'),
  )
  const unknown = unreadable(surveyed.messages, app)
  if (unknown.length > 0) {
    progress.end()
    await tellUnreadable(unknown, surveyed, options)
    return exitCode.unreadable
  }
  const spool = format === 'ndjson' ? new Spool() : undefined
  let made: DryRun
  try {
    made = await dryRun({
      data,
      snapshot,
      survey: surveyed,
      version: surveyed.version ?? (await versionInForce(data, snapshot)),
      module,
      samples,
      ...(spool && { each: (line: string) => spool.add(line) }),
      read: (records) => progress.add('derived by the code in force:', records, 'records'),
      heard: (status) => progress.show((columns) => barText(status, columns)),
      signal: stop.signal,
    })
  } catch (error) {
    spool?.drop()
    if (stop.signal.aborted) return exitCode.tryAgain
    throw error
  } finally {
    progress.end()
  }
  const { diff, status } = made
  const { failures } = status
  if (spool !== undefined) await write(Readable.fromWeb(spool.stream() as never), out)
  else if (format === 'json') await write([jsonOf(surveyed, { unreadable: [], failures, diff })], out)
  else if (format !== 'ndjson') await write([formatDiff(format, diff)], out)
  if (format === 'text') {
    const part = surveyed.isPart ? ' (the log has more)' : ''
    note(`${count(surveyed.records)} records can be read, and were derived${part}.`)
    if (failures > 0) note(paint.bad(`${count(failures)} derivations of the new code failed.`))
  }
  return failOn === 'differences' && diff.differences > 0 ? exitCode.differs : exitCode.ok
}

async function tellUnreadable(
  unknown: readonly MessageCount[],
  surveyed: Survey,
  options: CheckOptions,
): Promise<void> {
  if (formatOf(options) === 'json') return write([jsonOf(surveyed, { unreadable: unknown })], options.out)
  for (const { type, version, count: many, first } of unknown) {
    note(
      `${paint.bad('✘')} ${count(many)} requests ${JSON.stringify(type)} of version ${version} are in the log, the first at ${first}, ` +
        'and the new code does not know them.',
    )
  }
}

function jsonOf({ records, bytes, until, isPart, messages }: Survey, more: object): string {
  return `${JSON.stringify({ records, bytes, until, isPart, messages, ...more })}\n`
}
