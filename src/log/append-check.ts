import { changeError, operatorError, retryError } from '../failure.ts'
import { batchBytes } from './file-log/batch.ts'
import { recordBytesMax } from './log.ts'

/** The largest append a log takes, in bytes of all its records together. */
const appendBytesMax = 64 * 1024 * 1024

/** Checks an append before anything is written; returns the bytes of its records together. */
export function checkRecords(
  records: readonly Uint8Array[],
  batchBytesMax = Number.POSITIVE_INFINITY,
): number {
  if (records.length === 0) {
    throw changeError('append-empty', 'An append must hold at least one record: leave the call out.')
  }
  let bytes = 0
  for (let index = 0; index < records.length; index++) {
    const length = records[index]!.length
    if (length > recordBytesMax) {
      throw changeError(
        'record-too-large',
        `A record of ${length} bytes is larger than the log's limit of ${recordBytesMax}: make it smaller.`,
      )
    }
    bytes += length
  }
  const bytesMax = Math.min(appendBytesMax, batchBytesMax - batchBytes(records.length, 0))
  if (bytes > bytesMax) {
    throw changeError(
      'record-too-large',
      `An append of ${bytes} bytes is larger than the log's limit of ${bytesMax}: append fewer records at once.`,
    )
  }
  return bytes
}

export function checkPartition(partition: number, partitions: number): void {
  if (Number.isInteger(partition) && partition >= 0 && partition < partitions) return
  throw changeError(
    'partition-unknown',
    `The log has the partitions 0 to ${partitions - 1}, not ${partition}.`,
  )
}

export function checkOffset(partition: number, from: number, end: number): void {
  if (Number.isInteger(from) && from >= 0 && from <= end) return
  throw operatorError(
    'offset-out-of-range',
    `Partition ${partition} of the log ends at offset ${end}, but a read asks for ${from}. ` +
      'Was the state derived from this log? If so, the log has lost records.',
  )
}

export const logClosed = () => retryError('log-closed', 'The log is closed: open it again, then retry.')
