import { InvalidArgumentError } from 'commander'
import { principalOf, requestIdOf } from '../identity.ts'
import { type LogSnapshot, type PartitionSnapshot, readSnapshot } from '../log/file-log/snapshot.ts'
import { batchesByTime } from '../log/merge-by-time.ts'
import { decodeRecord, type LogRecord, type RecordedCorrection } from '../log/record.ts'
import { snapshotData } from '../offline/data-snapshot.ts'
import { command, dataOption, jsonOption, runs, wholeNumber } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, print } from './terminal/output.ts'

/** `hence log`: reads the log itself, without the app, and also while a process has it open. */
export function logCommand() {
  return command('log', 'read the log of a data directory, also while a process has it open', [
    'hence log stats --data data',
    'hence log cat --data data --json > export.ndjson',
  ])
    .addCommand(catCommand())
    .addCommand(statsCommand())
}

/** A record with its place. */
interface Placed {
  readonly partition: number
  readonly offset: number
  readonly time: number
  readonly record: LogRecord
}

function catCommand() {
  return command('cat', 'print the records in the order of log time; with --json, one object a record', [
    'hence log cat --data data',
    'hence log cat --data data --partition 0 --from 1000 --limit 10',
    'hence log cat --data data --json > export.ndjson     everything there ever was',
  ])
    .addOption(dataOption().makeOptionMandatory())
    .option('--partition <number>', 'this partition only', wholeNumber)
    .option('--from <offset>', 'from this offset on (with --partition)', wholeNumber)
    .option('--limit <number>', 'at most so many records', wholeNumber)
    .addOption(jsonOption())
    .action(
      runs(async (options: CatOptions) => {
        if (options.from !== undefined && options.partition === undefined) {
          throw new InvalidArgumentError('--from counts within one partition: give --partition too.')
        }
        const snapshot = await snapshotData(options.data)
        let left = options.limit ?? Number.POSITIVE_INFINITY
        if (left === 0) return exitCode.ok
        for await (const placed of recordsOf(snapshot, options.partition, options.from)) {
          await print(options.json ? jsonOf(placed) : lineOf(placed))
          if (--left === 0) break
        }
        return exitCode.ok
      }),
    )
}

interface CatOptions {
  readonly data: string
  readonly partition?: number
  readonly from?: number
  readonly limit?: number
  readonly json?: true
}

/** The records of the partitions side by side: by log time, then by partition. */
async function* recordsOf(snapshot: LogSnapshot, only: number | undefined, from = 0): AsyncGenerator<Placed> {
  const chosen = snapshot.partitions.filter((_, partition) => only === undefined || partition === only)
  if (chosen.length === 0) {
    throw new InvalidArgumentError(`The log has the partitions 0 to ${snapshot.partitions.length - 1}.`)
  }
  const sources = chosen.map((each) => ({
    partition: each.files.lineage.partition,
    batches: readSnapshot(each, from),
  }))
  for await (const [partition, { offset, time, records }] of batchesByTime(sources)) {
    for (const [i, bytes] of records.entries()) {
      if (offset + i < from) continue
      yield { partition, offset: offset + i, time, record: decodeRecord(bytes) }
    }
  }
}

/** One line of the export. Inputs stand in it byte for byte as they stand in the log. */
function jsonOf({ partition, offset, time, record }: Placed): string {
  const place = { token: `${partition}:${offset}`, at: time, kind: record.kind }
  const line = (more: object, ...raw: (readonly [name: string, json: string])[]) =>
    `${JSON.stringify({ ...place, ...more }).slice(0, -1)}${raw.map(([name, json]) => `,"${name}":${json}`).join('')}}`
  switch (record.kind) {
    case 'tick':
      return line({})
    case 'control':
      return line({ generation: record.generation, ...record.control })
    case 'correction':
      return line({ generation: record.generation, ...correctionOf(record.correction) })
    case 'result': {
      const { effect, done, tries, text } = record
      return done
        ? line({ effect, done, tries }, ['result', text])
        : line({ effect, done, tries, error: text })
    }
    case 'request': {
      const { type, version, input, output } = record
      const raw = output === undefined ? [] : ([['output', output]] as const)
      return line({ type, version, ...sentBy(record.identity) }, ['input', input], ...raw)
    }
    case 'event': {
      const { type, version, identity, key, depth, channelNumber, generation, data } = record
      const where = {
        cause: `${record.causePartition}:${record.causeOffset}`,
        root: `${record.rootPartition}:${record.rootOffset}`,
        id: Buffer.from(record.id, 'latin1').toString('hex'),
      }
      return line({ type, version, ...sentBy(identity), key, ...where, depth, channelNumber, generation }, [
        'data',
        data,
      ])
    }
  }
}

function correctionOf({ identity, rootPartition, rootOffset, ...rest }: RecordedCorrection): object {
  return { ...rest, ...sentBy(identity), root: `${rootPartition}:${rootOffset}` }
}

function sentBy(identity: string) {
  return { requestId: requestIdOf(identity), principal: principalOf(identity) }
}

function lineOf({ partition, offset, time, record }: Placed): string {
  const place = paint.faint(`${new Date(time).toISOString()} ${`${partition}:${offset}`.padEnd(8)}`)
  switch (record.kind) {
    case 'tick':
      return `${place} ${paint.strong('tick')}`
    case 'control': {
      const { generation, control } = record
      return `${place} ${paint.strong(control.type)} generation ${generation} ${paint.faint(`code ${control.version.slice(0, 12)}`)}`
    }
    case 'correction': {
      const { key, what } = record.correction
      return `${place} ${paint.strong('correction')} ${what.kind} ${JSON.stringify(key)}`
    }
    case 'result': {
      const { effect, done, text } = record
      return `${place} ${paint.strong(done ? 'done' : 'given up')} ${text} ${paint.faint(`effect ${effect}`)}`
    }
    case 'request':
      return `${place} ${paint.strong(record.type)} ${record.input} ${paint.faint(requestIdOf(record.identity))}`
    case 'event': {
      const cause = `event of ${record.causePartition}:${record.causeOffset}`
      const id = requestIdOf(record.identity)
      return `${place} ${paint.strong(record.type)} ${record.data} ${paint.faint(`${cause}, ${id}`)}`
    }
  }
}

function statsCommand() {
  return command('stats', 'count what the log holds, and check every byte of it', [
    'hence log stats --data data',
    'hence log stats --data data --json',
  ])
    .addOption(dataOption().makeOptionMandatory())
    .addOption(jsonOption())
    .action(
      runs(async (options: { readonly data: string; readonly json?: true }) => {
        const snapshot = await snapshotData(options.data)
        const partitions: PartitionStats[] = []
        for (const each of snapshot.partitions) partitions.push(await count(each))
        const types: Record<string, number> = {}
        for (const { byType } of partitions) {
          for (const [type, n] of Object.entries(byType)) types[type] = (types[type] ?? 0) + n
        }
        if (options.json) {
          await print(JSON.stringify({ logId: snapshot.id, partitions, types }))
          return exitCode.ok
        }
        await print(
          `log ${snapshot.id}, ${snapshot.partitions.length} partition${snapshot.partitions.length === 1 ? '' : 's'}`,
        )
        for (const stats of partitions) await print(describe(stats))
        for (const [type, n] of Object.entries(types).sort())
          await print(`  ${String(n).padStart(10)} ${type}`)
        return exitCode.ok
      }),
    )
}

interface PartitionStats {
  readonly partition: number
  readonly records: number
  readonly requests: number
  readonly events: number
  readonly bytes: number
  readonly segments: number
  /** Log time, in milliseconds since 1970; null without records. */
  readonly firstAt: number | null
  readonly lastAt: number | null
  readonly byType: Readonly<Record<string, number>>
}

async function count(snapshot: PartitionSnapshot): Promise<PartitionStats> {
  const byType: Record<string, number> = {}
  let [records, requests, events, bytes] = [0, 0, 0, 0]
  let firstAt: number | null = null
  let lastAt: number | null = null
  for await (const batch of readSnapshot(snapshot)) {
    firstAt ??= batch.time
    lastAt = batch.time
    for (const each of batch.records) {
      records++
      const record = decodeRecord(each)
      const type = 'type' in record ? record.type : record.kind
      byType[type] = (byType[type] ?? 0) + 1
      bytes += each.length
      if (record.kind === 'request') requests++
      else if (record.kind === 'event') events++
    }
  }
  return {
    partition: snapshot.files.lineage.partition,
    records,
    requests,
    events,
    bytes,
    segments: snapshot.findings?.segments.length ?? 0,
    firstAt,
    lastAt,
    byType,
  }
}

function describe({
  partition,
  records,
  requests,
  events,
  bytes,
  segments,
  firstAt,
  lastAt,
}: PartitionStats) {
  const when =
    firstAt === null ? '' : `, ${new Date(firstAt).toISOString()} to ${new Date(lastAt!).toISOString()}`
  return (
    `partition ${partition}: ${records} records (${requests} requests, ${events} events), ` +
    `${bytes} bytes in ${segments} segment${segments === 1 ? '' : 's'}${when}`
  )
}
