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
  return new MemoryLog(
    options.id ?? randomBytes(16).toString('hex'),
    options.partitions ?? 1,
    new LogTime(options.clock ?? systemClock),
  )
}

class MemoryLog implements Log {
  readonly id: string
  readonly partitions: number
  readonly #time: LogTime
  readonly #batches: Batch[][]
  readonly #decided: number[]
  #closed = false

  constructor(id: string, partitions: number, time: LogTime) {
    this.id = id
    this.partitions = partitions
    this.#time = time
    this.#decided = new Array(partitions).fill(0)
    this.#batches = Array.from({ length: partitions }, () => [])
  }

  async append(partition: number, records: readonly Uint8Array[]): Promise<Appended> {
    const batches = this.#open(partition)
    checkRecords(records)
    const batch = {
      offset: endOf(batches),
      time: this.#time.now(),
      records: records.map((record) => Buffer.from(record)),
    }
    batches.push(batch)
    return { offset: batch.offset, time: batch.time }
  }

  async *read(partition: number, from: number): AsyncGenerator<Batch> {
    const batches = this.#open(partition)
    checkOffset(partition, from, endOf(batches))
    for (let index = firstReaching(batches, from); index < batches.length; index++) {
      yield batches[index]!
      this.#open(partition)
    }
  }

  follow(clock: Pick<Clock, 'now'>): number {
    this.#time.follow(clock)
    return this.#time.last
  }

  derived(partition: number, offset: number): void {
    this.#decided[partition] = Math.max(this.#decided[partition]!, offset)
  }

  async decided(partition: number): Promise<number> {
    this.#open(partition)
    return this.#decided[partition]!
  }

  async end(partition: number): Promise<number> {
    return endOf(this.#open(partition))
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #open(partition: number): Batch[] {
    if (this.#closed) throw logClosed()
    checkPartition(partition, this.partitions)
    return this.#batches[partition]!
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
