import { join } from 'node:path'
import type { Batch, Log } from '../log.ts'
import { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import { type Disk, realDisk } from './disk.ts'
import { partitionFilesOf } from './file-log.ts'
import { readMeta } from './meta.ts'
import { listSegments, type PartitionFiles } from './recovery.ts'
import type { Segment } from './segment.ts'
import { readSegment } from './segment-read.ts'

/** A log that another process writes, to be read up to where that one says that it is durable. */
export interface GrowingLog extends Log {
  /** By partition: where it ends now. It never ends earlier than before. */
  grow(ends: readonly number[]): void
}

/**
 * Opens the log of a directory that another process holds. Nothing is read behind the ends that are told, so that a batch that
 * is being written is never taken for a damaged one.
 *
 * @throws HenceError `log-damaged`, `log-format-unknown` (operator), `log-read-failed` (retry)
 */
export async function openGrowingLog(directory: string, disk: Disk = realDisk): Promise<GrowingLog> {
  const folder = join(directory, 'log')
  const meta = await readMeta(disk, folder)
  if (meta === undefined) throw new Error(`There is no log in ${folder}.`)
  const partitions = partitionFilesOf(disk, folder, meta).map((files) => new GrowingPartition(files))
  return {
    id: meta.logId,
    partitions: meta.partitions,
    append: () => Promise.reject(new Error('This log is written by another process.')),
    read: (partition, from) => partitions[partition]!.read(from),
    end: async (partition) => partitions[partition]!.end,
    async close() {},
    grow(ends) {
      for (const [i, end] of ends.entries()) partitions[i]!.end = Math.max(partitions[i]!.end, end)
    },
  }
}

class GrowingPartition {
  end = 0
  readonly #files: PartitionFiles
  #segments: readonly Segment[] = []
  /** Where some batches begin, so that a reading of what is new does not walk through what is old. */
  readonly #indexes: BatchIndex[] = []

  constructor(files: PartitionFiles) {
    this.#files = files
  }

  async *read(from: number): AsyncGenerator<Batch> {
    // Not what is told meanwhile: of that, a piece of the file may be in memory as it was before.
    const { end } = this
    let last = from
    let previous: Buffer | undefined
    for (let number = await this.#segmentOf(from); last < end; number++) {
      const segment = await this.#segment(number)
      const batches = readSegment(this.#files, segment, {
        from,
        previous,
        index: this.#indexes[number]!,
        limit: () => segment.size,
      })
      try {
        for (;;) {
          const { done, value } = await batches.next()
          if (done) {
            previous = value
            break
          }
          yield value
          last = value.offset + value.records.length
          if (last >= end) return
        }
      } finally {
        await batches.return(undefined)
      }
    }
  }

  /** The last segment that is known to begin at an offset or before it; one made since is found by reading on. */
  async #segmentOf(from: number): Promise<number> {
    if (this.#segments.length === 0) await this.#list()
    return this.#segments.findLastIndex(({ baseOffset }) => baseOffset <= from)
  }

  async #segment(number: number): Promise<Segment> {
    if (this.#segments[number] === undefined) await this.#list()
    const segment = this.#segments[number]
    if (segment !== undefined) return segment
    throw damaged(this.#files.directory, 0, `segment ${number} is missing`)
  }

  async #list(): Promise<void> {
    // One that holds nothing durable yet may be given up after a write that failed: another one then gets its number.
    const { end } = this
    const segments = await listSegments(this.#files)
    this.#segments = segments.filter(({ number, baseOffset }) => number === 0 || baseOffset < end)
    for (const { number, baseOffset } of this.#segments) this.#indexes[number] ??= new BatchIndex(baseOffset)
  }
}
