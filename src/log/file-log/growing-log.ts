import { join } from 'node:path'
import type { Batch, Log } from '../log.ts'
import { BatchIndex } from './batch-index.ts'
import { type Disk, realDisk } from './disk.ts'
import { readMeta } from './meta.ts'
import { listSegments, type PartitionFiles, partitionFilesOf } from './partition-files.ts'
import { readPartition, segmentOf } from './partition-read.ts'
import type { Segment } from './segment.ts'

/** A log that another process writes, read up to the ends that the writer reports as durable. */
export interface GrowingLog extends Log {
  /** Takes the new end of each partition; an end never moves back. */
  grow(ends: readonly number[]): void
}

/**
 * Opens the log of a directory that another process holds. Nothing is read past the reported ends, so a batch
 * that is being written is never taken for a damaged one.
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
  /** Kept between readings, so that reading what is new does not walk through what is old. */
  readonly #indexes: BatchIndex[] = []

  constructor(files: PartitionFiles) {
    this.#files = files
  }

  async *read(from: number): AsyncGenerator<Batch> {
    // Not beyond the present end: a piece of the file may be in memory as it was before the next batch.
    const { end } = this
    if (from >= end) return
    if (this.#segments.length === 0) await this.#list()
    const batches = readPartition(this.#files, from, {
      // A segment made since the last listing is found by reading on.
      first: segmentOf(this.#segments, from),
      segment: (number) => this.#segment(number),
      index: ({ number }) => this.#indexes[number]!,
      limit: ({ size }) => size,
    })
    for await (const batch of batches) {
      yield batch
      if (batch.offset + batch.records.length >= end) return
    }
  }

  async #segment(number: number): Promise<Segment | undefined> {
    if (this.#segments[number] === undefined) await this.#list()
    return this.#segments[number]
  }

  async #list(): Promise<void> {
    // A segment without a durable record may be removed after a failed write; another gets its number.
    const { end } = this
    const segments = await listSegments(this.#files)
    this.#segments = segments.filter(({ number, baseOffset }) => number === 0 || baseOffset < end)
    for (const { number, baseOffset } of this.#segments) this.#indexes[number] ??= new BatchIndex(baseOffset)
  }
}
