import { InvalidArgumentError } from 'commander'
import { HenceError } from '../failure.ts'
import { requestIdOf } from '../identity.ts'
import { type ExportedRecord, exportLine } from '../log/record-line.ts'
import type { PartitionStats } from '../offline/index.ts'
import { command, type DataOptions, wholeNumber } from './command.ts'
import { paint, print, printExact, printResult } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function logCommand() {
  return command('log', 'read the log of a data directory, also while a process has it open', [
    'hence log stats --data data',
    'hence log cat --data data --json > export.ndjson',
  ])
    .addCommand(catCommand())
    .addCommand(statsCommand())
}

function catCommand() {
  return command('cat', 'print the records in the order of log time; with --json, one object a record', [
    'hence log cat --data data',
    'hence log cat --data data --partition 0 --from 1000 --limit 10',
    'hence log cat --data data --json > export.ndjson     exports everything',
  ])
    .data()
    .option('--partition <number>', 'only this partition', wholeNumber)
    .option('--from <offset>', 'start at this offset (requires --partition)', wholeNumber)
    .option('--limit <number>', 'print at most this many records', wholeNumber)
    .json()
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

function recordText({ partition, offset, time, record }: ExportedRecord): string {
  const position = paint.faint(`${new Date(time).toISOString()} ${`${partition}:${offset}`.padEnd(8)}`)
  switch (record.kind) {
    case 'tick':
      return `${position} ${paint.strong('tick')}`
    case 'control': {
      const { generation, control } = record
      return (
        `${position} ${paint.strong(control.type)} generation ${generation} ` +
        `${paint.faint(`code ${control.version.slice(0, 12)}`)}`
      )
    }
    case 'correction': {
      const { key, what } = record.correction
      return `${position} ${paint.strong('correction')} ${what.kind} ${JSON.stringify(key)}`
    }
    case 'ruling': {
      const { offset, type, key, code } = record.ruling
      return `${position} ${paint.strong('ruling')} on ${partition}:${offset} ${type} ${JSON.stringify(key)}: ${code}`
    }
    case 'mark':
      return (
        `${position} ${paint.strong('mark')} on ${partition}:${record.mark.offset}, derived in ` +
        `${record.mark.ms} ms`
      )
    case 'watermark': {
      const before = new Date(record.watermark.before).toISOString()
      return `${position} ${paint.strong('watermark')} ids from before ${before} are forgotten`
    }
    case 'result': {
      const { effect, done, text } = record
      return `${position} ${paint.strong(done ? 'done' : 'given up')} ${text} ${paint.faint(`effect ${effect}`)}`
    }
    case 'request':
      return `${position} ${paint.strong(record.type)} ${record.input} ${paint.faint(requestIdOf(record.identity))}`
    case 'event': {
      const cause = `event of ${record.causePartition}:${record.causeOffset}`
      const id = requestIdOf(record.identity)
      return `${position} ${paint.strong(record.type)} ${record.data} ${paint.faint(`${cause}, ${id}`)}`
    }
  }
}

function statsCommand() {
  return command('stats', 'count what a log holds, and check every byte of it', [
    'hence log stats --data data',
    'hence log stats --data data --json',
  ])
    .data()
    .json()
    .runs(async ({ data, json }: DataOptions) => {
      const { logStats } = await import('../offline/export-log.ts')
      const stats = await withProgress((work) => logStats({ data, ...work }))
      const { logId, partitions, types } = stats
      await printResult(json, stats, [
        `log ${logId}, ${partitions.length} partition${partitions.length === 1 ? '' : 's'}`,
        ...partitions.map(partitionText),
        ...Object.entries(types)
          .sort()
          .map(([type, n]) => `  ${String(n).padStart(10)} ${type}`),
      ])
    })
}

function partitionText(stats: PartitionStats): string {
  const { partition, records, requests, events, bytes, segments, firstAt, lastAt } = stats
  const when =
    firstAt === null ? '' : `, ${new Date(firstAt).toISOString()} to ${new Date(lastAt!).toISOString()}`
  return (
    `partition ${partition}: ${records} records (${requests} requests, ${events} events), ` +
    `${bytes} bytes in ${segments} segment${segments === 1 ? '' : 's'}${when}`
  )
}
