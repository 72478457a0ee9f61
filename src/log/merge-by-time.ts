import { assert } from '../assert.ts'
import type { Batch } from './log.ts'

/** The records of one partition to merge with those of others. */
export interface MergeSource {
  readonly partition: number
  /** In offset order; the first batch may begin before `from`. */
  readonly batches: AsyncIterable<Batch>
  /** The offset of the first record. Default: that of the first batch. */
  readonly from?: number
  /** The offset to stop at. Default: where the batches end. */
  readonly end?: number
}

/** One partition, read forward; it stands before its next record. */
export class PartitionCursor {
  readonly partition: number
  readonly #batches: AsyncIterator<Batch>
  readonly #end: number
  #batch!: Batch
  #offset = 0

  /** Opens a cursor; undefined if there is no record to read. */
  static async open(source: MergeSource): Promise<PartitionCursor | undefined> {
    const cursor = new PartitionCursor(source)
    if (!(await cursor.load())) return undefined
    cursor.#offset = source.from ?? cursor.#batch.offset
    return cursor
  }

  private constructor({ partition, batches, end = Number.POSITIVE_INFINITY }: MergeSource) {
    this.partition = partition
    this.#batches = batches[Symbol.asyncIterator]()
    this.#end = end
  }

  get batch(): Batch {
    return this.#batch
  }

  get offset(): number {
    return this.#offset
  }

  /** Log time of the next record, in milliseconds since 1970. */
  get time(): number {
    return this.#batch.time
  }

  get record(): Buffer {
    return this.#batch.records[this.#offset - this.#batch.offset]!
  }

  /** How many records can be taken from the batch. */
  get available(): number {
    return Math.min(this.#batch.offset + this.#batch.records.length, this.#end) - this.#offset
  }

  skip(count: number): void {
    assert(count >= 0 && count <= this.available, 'a cursor stays within its batch', count, this.available)
    this.#offset += count
  }

  /** Reads the next batch once the present one is used up. Resolves to false, and closes, where the source ends. */
  async load(): Promise<boolean> {
    if (this.#batch !== undefined && this.available > 0) return true
    const next = this.#offset < this.#end ? await this.#batches.next() : undefined
    if (next === undefined || next.done) {
      await this.close()
      return false
    }
    const { value } = next
    if (this.#batch !== undefined) {
      assert(value.offset === this.#offset, 'batches of a partition leave no gap', value.offset, this.#offset)
      assert(value.time >= this.time, 'log time never goes backwards', value.time, this.time)
    }
    this.#batch = value
    this.#offset = value.offset
    return true
  }

  async close(): Promise<void> {
    await this.#batches.return?.()
  }
}

/**
 * Merges partitions by log time. A record may have to wait for a record of another partition, so partitions
 * advance side by side and do not always take turns by time. Close it: cursors that have not reached their
 * end hold files open.
 */
export class MergeByTime {
  readonly #cursors: PartitionCursor[] = []

  static async open(sources: Iterable<MergeSource>): Promise<MergeByTime> {
    const merge = new MergeByTime()
    try {
      for (const source of sources) {
        const cursor = await PartitionCursor.open(source)
        if (cursor) merge.#cursors.push(cursor)
      }
    } catch (error) {
      await merge.close()
      throw error
    }
    merge.#sort()
    return merge
  }

  /** The cursors that have a next record, in order of its log time, then of their partition. */
  get cursors(): readonly PartitionCursor[] {
    return this.#cursors
  }

  /**
   * Lets the first cursor that can do so advance.
   * @param take takes records of a cursor's batch, and returns how many; 0 if the next record has to wait
   * @param until no record with a later log time is taken
   * @returns how many records were taken; 0 if every cursor has to wait
   */
  async advance(
    take: (cursor: PartitionCursor) => number | Promise<number>,
    until = Number.POSITIVE_INFINITY,
  ): Promise<number> {
    for (const cursor of this.#cursors) {
      if (cursor.time > until) break
      const taken = await take(cursor)
      if (taken === 0) continue
      cursor.skip(taken)
      await this.#settle(cursor)
      return taken
    }
    return 0
  }

  async skipAll(): Promise<void> {
    for (const cursor of [...this.#cursors]) {
      cursor.skip(1)
      await this.#settle(cursor)
    }
  }

  async close(): Promise<void> {
    for (const cursor of this.#cursors.splice(0)) await cursor.close()
  }

  async #settle(cursor: PartitionCursor): Promise<void> {
    if (cursor.available > 0) return
    if (!(await cursor.load())) this.#cursors.splice(this.#cursors.indexOf(cursor), 1)
    this.#sort()
  }

  #sort(): void {
    this.#cursors.sort((a, b) => a.time - b.time || a.partition - b.partition)
  }
}

/** Yields the batches of several partitions in order of log time, then of partition. */
export async function* batchesByTime(
  sources: Iterable<MergeSource>,
): AsyncGenerator<[partition: number, batch: Batch]> {
  const merge = await MergeByTime.open(sources)
  try {
    for (let first = merge.cursors[0]; first !== undefined; first = merge.cursors[0]) {
      yield [first.partition, first.batch]
      await merge.advance(({ available }) => available)
    }
  } finally {
    await merge.close()
  }
}
