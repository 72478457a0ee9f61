import { checkPartition } from '../log/append-check.ts'
import { readSnapshot } from '../log/file-log/snapshot.ts'
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
