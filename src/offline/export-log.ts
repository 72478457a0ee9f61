import { checkPartition } from '../log/append-check.ts'
import { type PartitionSnapshot, readSnapshot } from '../log/file-log/snapshot.ts'
import { batchesByTime } from '../log/merge-by-time.ts'
import { decodeRecord } from '../log/record.ts'
import { type ExportedRecord, exportLine } from '../log/record-line.ts'
import { recordsIn, snapshotData } from './data-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'

export interface ExportOptions extends LongWork {
  /** The data directory, or a backup. A process may have it open. */
  readonly data: string
  /** Only this partition. */
  readonly partition?: number | undefined
  /** Only records from this offset on, of each partition. */
  readonly from?: number | undefined
}

/**
 * Exports the records of a log in the order of log time: a line of JSON for each, without the line break, as
 * `hence log cat --json` prints it. Inputs are in it byte for byte as the log holds them.
 * @throws HenceError `no-log`, `partition-unknown` (change); `log-damaged`, `record-unreadable` (operator)
 *   after the records before the damage
 */
export async function* exportLog(options: ExportOptions): AsyncGenerator<string> {
  for await (const each of recordsOf(options)) yield exportLine(each)
}

/** The records that `exportLog` exports, decoded. */
export async function* recordsOf(options: ExportOptions): AsyncGenerator<ExportedRecord> {
  const { data, partition: only, from = 0 } = options
  const snapshot = await snapshotData(data)
  if (only !== undefined) checkPartition(only, snapshot.partitions.length)
  const chosen = snapshot.partitions.filter((_, partition) => only === undefined || partition === only)
  const sources = chosen.map((each) => ({
    partition: each.files.lineage.partition,
    batches: readSnapshot(each, from),
  }))
  const read = beginStep(
    options,
    'read',
    'records',
    only === undefined && from === 0 ? recordsIn(snapshot) : undefined,
  )
  for await (const [partition, { offset, time, records }] of batchesByTime(sources)) {
    read(records.length)
    for (const [i, bytes] of records.entries()) {
      if (offset + i < from) continue
      yield { partition, offset: offset + i, time, record: decodeRecord(bytes) }
    }
  }
}

/** How many records a log holds, and of which types. */
export interface LogStats {
  readonly logId: string
  readonly partitions: readonly PartitionStats[]
  /** By type (of requests and events) or kind: the number of records in all partitions. */
  readonly types: Readonly<Record<string, number>>
}

export interface PartitionStats {
  readonly partition: number
  readonly records: number
  readonly requests: number
  readonly events: number
  readonly bytes: number
  readonly segments: number
  /** The log times of the first and the last record, in milliseconds since 1970; null without records. */
  readonly firstAt: number | null
  readonly lastAt: number | null
  readonly byType: Readonly<Record<string, number>>
}

/**
 * Counts the records of a log, and checks every byte of it. A process may have the directory open.
 * @throws HenceError `no-log` (change), `log-damaged`, `record-unreadable` (operator)
 */
export async function logStats(options: LongWork & { readonly data: string }): Promise<LogStats> {
  const snapshot = await snapshotData(options.data)
  const read = beginStep(options, 'read', 'records', recordsIn(snapshot))
  const partitions: PartitionStats[] = []
  for (const each of snapshot.partitions) partitions.push(await statsOf(each, read))
  const types: Record<string, number> = {}
  for (const { byType } of partitions) {
    for (const [type, n] of Object.entries(byType)) types[type] = (types[type] ?? 0) + n
  }
  return { logId: snapshot.id, partitions, types }
}

async function statsOf(
  snapshot: PartitionSnapshot,
  read: (records: number) => void,
): Promise<PartitionStats> {
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
    read(batch.records.length)
  }
  const { partition } = snapshot.files.lineage
  const segments = snapshot.findings?.segments.length ?? 0
  return { partition, records, requests, events, bytes, segments, firstAt, lastAt, byType }
}
