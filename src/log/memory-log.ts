import { randomBytes } from 'node:crypto'
import { type Clock, systemClock } from '../clock.ts'
import { checkOffset, checkPartition, checkRecords, logClosed } from './append-check.ts'
import type { Appended, Batch, Log } from './log.ts'
import { LogTime } from './log-time.ts'

/**
 * A log in memory, for tests and experiments: it keeps every promise of the contract except to outlive its
 * process. It copies records when they are appended.
 */
export function memoryLog(
  options: { readonly partitions?: number; readonly clock?: Clock; readonly id?: string } = {},
): Log {
  const { partitions = 1, clock = systemClock, id = randomBytes(16).toString('hex') } = options
  const time = new LogTime(clock)
  const batchesOf: Batch[][] = Array.from({ length: partitions }, () => [])
  const decided: number[] = new Array(partitions).fill(0)
  let isClosed = false

  function open(partition: number): Batch[] {
    if (isClosed) throw logClosed()
    checkPartition(partition, partitions)
    return batchesOf[partition]!
  }

  return {
    id,
    partitions,
    async append(partition, records): Promise<Appended> {
      const batches = open(partition)
      checkRecords(records)
      const at = { offset: endOf(batches), time: time.now() }
      batches.push({ ...at, records: records.map((record) => Buffer.from(record)) })
      return at
    },
    async *read(partition, from): AsyncGenerator<Batch> {
      const batches = open(partition)
      checkOffset(partition, from, endOf(batches))
      for (let index = firstReaching(batches, from); index < batches.length; index++) {
        yield batches[index]!
        open(partition)
      }
    },
    follow(clock) {
      time.follow(clock)
      return time.last
    },
    derived(partition, offset) {
      decided[partition] = Math.max(decided[partition]!, offset)
    },
    async decided(partition) {
      open(partition)
      return decided[partition]!
    },
    async end(partition) {
      return endOf(open(partition))
    },
    async close() {
      isClosed = true
    },
  }
}

function endOf(batches: readonly Batch[]): number {
  const last = batches.at(-1)
  return last === undefined ? 0 : last.offset + last.records.length
}

/** Returns the index of the first batch that ends after the offset. */
function firstReaching(batches: readonly Batch[], offset: number): number {
  let low = 0
  let high = batches.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const batch = batches[middle]!
    if (batch.offset + batch.records.length > offset) high = middle
    else low = middle + 1
  }
  return low
}
