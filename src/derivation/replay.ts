import { HenceError } from '../failure.ts'
import type { Batch, Log } from '../log/log.ts'
import { decodeRecord } from '../log/record.ts'
import type { Processor } from './processor.ts'

/**
 * Applies what stands in the log behind the processor's positions. Partitions advance side by side by log
 * time, and an event waits for its cause, so the result is that of the first time.
 *
 * @param partitions those to catch up
 * @param pause called between batches with the number of records applied so far; where a checkpoint goes
 * @returns how many records were applied
 * @throws HenceError what reading the log and applying its records throw, and `log-shorter-than-state`
 *   (operator) when the log ends before a position
 */
export async function replay(
  log: Log,
  processor: Processor,
  partitions: readonly number[],
  pause: (applied: number) => Promise<void> | undefined,
): Promise<number> {
  let applied = 0
  const readers: Reader[] = []
  for (const partition of partitions) {
    const position = processor.position(partition)
    const end = await log.end(partition)
    if (end < position) throw shorter(partition, end, position)
    if (end > position) readers.push(await Reader.open(log, partition, position))
  }
  while (readers.length > 0) {
    readers.sort((a, b) => a.batch.time - b.batch.time || a.partition - b.partition)
    const before = applied
    for (const [i, reader] of readers.entries()) {
      applied += reader.apply(processor)
      if (applied === before) continue
      if (reader.done && !(await reader.next())) readers.splice(i, 1)
      break
    }
    if (applied === before) throw stuck(readers)
    const paused = pause(applied)
    if (paused) await paused
  }
  return applied
}

/** One partition of the log, a batch at a time. */
class Reader {
  readonly partition: number
  readonly #batches: AsyncIterator<Batch>
  batch!: Batch
  #at = 0

  static async open(log: Log, partition: number, from: number): Promise<Reader> {
    const reader = new Reader(partition, log.read(partition, from)[Symbol.asyncIterator]())
    await reader.next()
    reader.#at = from - reader.batch.offset
    return reader
  }

  private constructor(partition: number, batches: AsyncIterator<Batch>) {
    this.partition = partition
    this.#batches = batches
  }

  get done(): boolean {
    return this.#at >= this.batch.records.length
  }

  async next(): Promise<boolean> {
    const { done, value } = await this.#batches.next()
    if (done) return false
    this.batch = value
    this.#at = 0
    return true
  }

  /** Applies records up to the end of the batch, or up to an event whose cause is still to come. */
  apply(processor: Processor): number {
    const { offset, time, records } = this.batch
    const from = this.#at
    for (; this.#at < records.length; this.#at++) {
      const at = offset + this.#at
      const record = decodeRecord(records[this.#at]!)
      if (processor.apply(this.partition, at, time, record) === 'early') break
    }
    return this.#at - from
  }
}

function shorter(partition: number, end: number, position: number): HenceError {
  return new HenceError(
    'log-shorter-than-state',
    'operator',
    `Partition ${partition} of the log ends at offset ${end}, but the tables were derived from ${position} records. ` +
      'Part of the log is gone: put it back from a copy.',
  )
}

function stuck(readers: readonly Reader[]): HenceError {
  const places = readers.map(({ partition, batch }) => `partition ${partition} near offset ${batch.offset}`)
  return new HenceError(
    'divergence',
    'operator',
    `Events in the log wait for a cause that never comes: ${places.join(', ')}. The log is damaged.`,
  )
}
