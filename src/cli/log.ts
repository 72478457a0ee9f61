import { InvalidArgumentError } from 'commander'
import { HenceError } from '../failure.ts'
import { type ExportedRecord, exportLine } from '../log/record-line.ts'
import { command, type DataOptions, group, wholeNumber } from './command.ts'
import { carrierAt, isAddress, logOption } from './log-carrier.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, print, printExact, printLines, printResult } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function logCommand() {
  return group(
    'log',
    'read the log of a data directory, also while a process has it open; copy it elsewhere',
    [catCommand(), copyCommand(), migrateCommand()],
  )
}

function copyCommand() {
  return command(
    'copy',
    'copy a log, hash by hash, from a data directory to where it will be, or back into a new directory',
    [
      'hence log copy data postgres://hence@db/shop',
      'hence log copy postgres://hence@db/shop data-of-its-own',
    ],
  )
    .argument('<from>', 'a data directory that no process has open, or the address of a log')
    .argument('<to>', 'the address of a log that is not there yet, or a new data directory')
    .json()
    .addHelpText('after', '\nIt refuses another log in its place. If it was interrupted, run it again.')
    .runs(async (from: string, to: string, { json }: { json?: true }) => {
      const { copyLogTo } = await import('../offline/carried-log.ts')
      const [source, target] = await Promise.all(
        [from, to].map((each) => (isAddress(each) ? carrierAt(each) : each)),
      )
      const copied = await withProgress((work) => copyLogTo({ from: source!, to: target!, ...work }))
      await printResult(json, copied, [`${paint.good('✔')} ${copied.records} records are copied.`])
      return exitCode.ok
    })
}

function migrateCommand() {
  return command('migrate', 'make the tables of a log in PostgreSQL, or bring them up to date', [
    'hence log migrate --log postgres://owner@db/shop',
    'hence log migrate --log postgres://owner@db/shop --print     prints the statements, and runs nothing',
  ])
    .addOption(logOption().makeOptionMandatory())
    .option('--print', 'print the statements instead of running them')
    .runs(async ({ log, print: isPrinted }: { log: string; print?: true }) => {
      if (!/^postgres(ql)?:/.test(log)) throw new InvalidArgumentError('Only a log in PostgreSQL has tables.')
      const { migratePostgresLog, postgresLogAt, postgresLogSql } = await import('../postgres/log.ts')
      const options = postgresLogAt(log)
      if (isPrinted) {
        await printLines(postgresLogSql(options).trim())
      } else {
        await migratePostgresLog(options)
        await print(
          `${paint.good('✔')} The tables of the log are there. --print ends with the rights that Hence needs.`,
        )
      }
      return exitCode.ok
    })
}

function catCommand() {
  return command('cat', 'print the records in the order of log time; with --json, one object a record', [
    'hence log cat --data data',
    'hence log cat --data data --partition 0 --from 1000 --limit 10',
    'hence log cat --data data --json > export.ndjson     exports everything',
  ])
    .readsLog()
    .option('--partition <number>', 'only this partition', wholeNumber)
    .option('--from <offset>', 'start at this offset (requires --partition)', wholeNumber)
    .option('--limit <number>', 'print at most this many records', wholeNumber)
    .runs(printRecords)
}

interface CatOptions extends DataOptions {
  readonly partition?: number
  readonly from?: number
  readonly limit?: number
}

async function printRecords(options: CatOptions): Promise<undefined> {
  const { data, partition, from, limit = Number.POSITIVE_INFINITY, json } = options
  if (from !== undefined && partition === undefined) {
    throw new InvalidArgumentError('--from is an offset within one partition: give --partition too.')
  }
  let left = limit
  if (left === 0) return
  const { recordsOf } = await import('../offline/export-log.ts')
  try {
    for await (const each of recordsOf({ data, partition, from })) {
      await (json ? printExact(exportLine(each)) : print(recordText(each)))
      if (--left === 0) break
    }
  } catch (error) {
    if (!(error instanceof HenceError) || error.code !== 'partition-unknown') throw error
    throw new InvalidArgumentError(error.message)
  }
}

function recordText(exported: ExportedRecord): string {
  const { partition, offset, time, record } = exported
  const position = paint.faint(`${new Date(time).toISOString()} ${`${partition}:${offset}`.padEnd(8)}`)
  const { token: _, at: __, kind: ___, ...fields } = JSON.parse(exportLine(exported))
  return `${position} ${paint.strong(record.kind)} ${JSON.stringify(fields)}`
}
