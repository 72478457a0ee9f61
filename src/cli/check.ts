import { Option } from 'commander'
import { type DryRun, dryRun } from '../offline/index.ts'
import { Spool } from '../server/spool.ts'
import { command, logTime, wholeNumber } from './command.ts'
import {
  type DiffOptions,
  formatDiff,
  formatOf,
  formatOptions,
  writeLines,
  writeText,
} from './reprocess/diff.ts'
import { count } from './reprocess/status-text.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

interface CheckCommandOptions extends Pick<DiffOptions, 'format' | 'samples' | 'out' | 'json'> {
  readonly data: string
  readonly sample?: number
  readonly until?: number
  readonly failOn?: 'differences'
}

/**
 * `hence check`: whether new code can read a log, and what it derives differently; for the checks before a
 * merge.
 */
export function checkCommand() {
  const check = command(
    'check',
    'check that new code can read a log, and show what it would derive differently; changes nothing',
    [
      'hence check shop.ts --data data',
      'hence check shop.ts --data /mnt/backup/2026-11-24 --sample 100000 --fail-on differences',
      'hence check shop.ts --data data --format markdown --out diff.md',
    ],
  )
    .argument('<app>', 'the module of the new code, for example shop.ts')
    .data()
    .option('--sample <records>', 'read about this many records, from the first on', wholeNumber)
    .option(
      '--until <time>',
      'read records up to this log time: ISO 8601, or milliseconds since 1970',
      logTime,
    )
    .addOption(
      new Option('--fail-on <what>', `exit with ${exitCode.differs} if anything differs`).choices([
        'differences',
      ]),
    )
  return formatOptions(check)
    .json()
    .addHelpText(
      'after',
      `
It works in a temporary directory, and may run beside a process that has the data directory open. It exits with 0 if the
new code can read the log, and with ${exitCode.unreadable} if the log holds requests whose type or version the code does not know.`,
    )
    .runs(checkCode)
}

async function checkCode(app: string, options: CheckCommandOptions): Promise<number> {
  const { data, sample: records, until, failOn, samples } = options
  const spool = formatOf(options) === 'ndjson' ? new Spool() : undefined
  const each = spool && ((line: string) => spool.add(line))
  let result: DryRun | undefined
  try {
    result = await withProgress((work) => dryRun({ data, app, records, until, samples, each, ...work }))
  } finally {
    if (result?.diff === undefined) spool?.drop()
  }
  if (result === undefined) return exitCode.tryAgain
  if (result.unreadable.length > 0) {
    await printUnreadable(result, options)
    return exitCode.unreadable
  }
  await printDiff(result, options, spool)
  return failOn === 'differences' && result.diff!.differences > 0 ? exitCode.differs : exitCode.ok
}

async function printDiff(
  result: DryRun,
  options: CheckCommandOptions,
  spool: Spool | undefined,
): Promise<void> {
  const format = formatOf(options)
  if (spool !== undefined) return writeLines(spool.texts(), options.out)
  if (format === 'json') return writeText(JSON.stringify(result), options.out)
  if (format === 'ndjson') return
  await writeText(formatDiff(format, result.diff!), options.out)
  if (format !== 'text') return
  const { records, isPart, failures = 0 } = result
  const part = isPart ? ' (the log has more)' : ''
  note(`${count(records)} records can be read, and were derived${part}.`)
  if (failures > 0) note(paint.bad(`${count(failures)} derivations of the new code failed.`))
}

async function printUnreadable(result: DryRun, options: CheckCommandOptions): Promise<void> {
  if (formatOf(options) === 'json') return writeText(JSON.stringify(result), options.out)
  for (const { type, version, count: many, first } of result.unreadable) {
    note(
      `${paint.bad('✘')} The new code does not know ${count(many)} requests in the log: ` +
        `${JSON.stringify(type)} of version ${version}, the first at ${first}.`,
    )
  }
}
