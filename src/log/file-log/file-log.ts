import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { HenceError } from '../../failure.ts'
import { printReport, type Reporter } from '../../report.ts'
import { checkPartition, logClosed } from '../append-check.ts'
import type { Appended, Batch, Log } from '../log.ts'
import { LogTime } from '../log-time.ts'
import { damaged } from './damage.ts'
import { type Disk, makeDirectories, realDisk } from './disk.ts'
import { type Meta, readMeta, writeMeta } from './meta.ts'
import { Partition } from './partition.ts'
import { inspect, type PartitionFiles } from './recovery.ts'
import { makeSegment, parseSegmentName, segmentHeaderBytes, segmentName, spareName } from './segment.ts'
import { findJunkEnd } from './segment-scan.ts'

export interface FileLogOptions {
  /** The data directory; the log is its folder `log`. */
  readonly directory: string
  /** How many partitions a new log gets, 1 to 1,024; an existing log must have as many. Default: 1, or what it has. */
  readonly partitions?: number | undefined
  readonly clock?: Clock
  readonly report?: Reporter
  /** The size of a segment file. Default 64 MiB, and less for many partitions. */
  readonly segmentBytes?: number
  /** How long after the last append a partition is sealed, in milliseconds. Default 200. */
  readonly sealAfterMs?: number
  readonly disk?: Disk
  /** The id that a new log gets: 32 lower-case hexadecimal digits. Default: random. */
  readonly newLogId?: string
}

/**
 * Opens the log of a directory, or makes it. The bytes are described in docs/reference/log-format.md. The
 * caller must hold the directory's lock.
 *
 * A torn end, left by a crash in the middle of a write, is copied aside, cut off and reported; everything else
 * that is not as it was written is damage, and nothing is changed then.
 * @throws HenceError `partitions-mismatch` (change), `log-damaged`, `log-format-unknown` (operator),
 *   `log-read-failed` (retry)
 */
export async function openFileLog(options: FileLogOptions): Promise<Log> {
  const { disk = realDisk, clock = systemClock, report = printReport, sealAfterMs = 200 } = options
  const directory = join(options.directory, 'log')
  await makeDirectories(disk, directory, 'log directory')
  const meta =
    (await readMeta(disk, directory)) ??
    (await make(
      disk,
      directory,
      {
        logId: options.newLogId ?? randomBytes(16).toString('hex'),
        partitions: options.partitions ?? 1,
      },
      options.segmentBytes,
    ))
  if (options.partitions !== undefined && options.partitions !== meta.partitions) {
    throw mismatch(options.directory, meta.partitions, options.partitions)
  }
  // After a crash the name may be there only because the machine kept running.
  await disk.syncDirectory(directory, 'meta name')

  const partitionsFiles = partitionFilesOf(disk, directory, meta)
  // All are looked at before one is changed: damage in one leaves the others as they are.
  const findings = []
  for (const files of partitionsFiles) findings.push(await inspect(files))
  const time = new LogTime(clock)
  const segmentBytes = options.segmentBytes ?? segmentBytesFor(meta.partitions)
  const partitions = partitionsFiles.map(
    (files) => new Partition({ files, segmentBytes, sealAfterMs, time, report }),
  )
  for (const [index, partition] of partitions.entries()) await partition.open(findings[index]!)
  return new FileLog(meta, partitions)
}

class FileLog implements Log {
  readonly id: string
  readonly partitions: number
  readonly #partitions: readonly Partition[]
  #closed = false

  constructor(meta: Meta, partitions: readonly Partition[]) {
    this.id = meta.logId
    this.partitions = meta.partitions
    this.#partitions = partitions
  }

  async append(partition: number, records: readonly Uint8Array[]): Promise<Appended> {
    return this.#open(partition).append(records)
  }

  async *read(partition: number, from: number): AsyncGenerator<Batch> {
    yield* this.#open(partition).read(from)
  }

  async end(partition: number): Promise<number> {
    return this.#open(partition).end()
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#partitions.map((partition) => partition.close()))
  }

  #open(partition: number): Partition {
    if (this.#closed) throw logClosed()
    checkPartition(partition, this.partitions)
    return this.#partitions[partition]!
  }
}

const partitionsMax = 1024

/** Makes a new log. The file that says so comes last; what an unfinished making has left is made anew. */
async function make(
  disk: Disk,
  directory: string,
  meta: Meta,
  segmentBytes = segmentBytesFor(meta.partitions),
): Promise<Meta> {
  const { partitions } = meta
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > partitionsMax) {
    throw new HenceError(
      'option-invalid',
      'change',
      `The number of partitions must be a whole number from 1 to ${partitionsMax}, not ${partitions}.`,
    )
  }
  for (const name of (await disk.list(directory)) ?? []) {
    if (/^p\d{4}$/.test(name)) await clear(disk, directory, join(directory, name))
  }
  for (const files of partitionFilesOf(disk, directory, meta)) {
    await makeDirectories(disk, files.directory, 'partition directory')
    await makeSegment(disk, join(files.directory, segmentName(0, 0)), files.lineage, segmentBytes)
    await disk.syncDirectory(files.directory, 'first segment')
  }
  await writeMeta(disk, directory, meta)
  return meta
}

/** Removes the files of a partition whose making was not finished, after a look that it holds nothing. */
async function clear(disk: Disk, log: string, directory: string): Promise<void> {
  const names = (await disk.list(directory))!.filter(
    (name) => name === spareName || parseSegmentName(name) !== undefined,
  )
  for (const name of names) {
    const path = join(directory, name)
    const file = await disk.open(path, 'read')
    let end: number
    try {
      end = await findJunkEnd(file, await file.size(), segmentHeaderBytes)
    } finally {
      await file.close()
    }
    if (end > segmentHeaderBytes) {
      throw damaged(join(log, 'meta.json'), 0, `it is missing, though ${path} holds data`)
    }
    await disk.remove(path)
  }
}

export function partitionFilesOf(disk: Disk, directory: string, meta: Meta): PartitionFiles[] {
  const logId = Buffer.from(meta.logId, 'hex')
  return Array.from({ length: meta.partitions }, (_, partition) => ({
    disk,
    directory: join(directory, `p${String(partition).padStart(4, '0')}`),
    lineage: { logId, partition },
  }))
}

/** Recovery reads the last segment of each partition, so many partitions have smaller ones. */
function segmentBytesFor(partitions: number): number {
  const mebibyte = 1024 * 1024
  return Math.max(4 * mebibyte, Math.min(64 * mebibyte, Math.floor((256 * mebibyte) / partitions)))
}

function mismatch(directory: string, has: number, wanted: number): HenceError {
  return new HenceError(
    'partitions-mismatch',
    'change',
    `The log in ${directory} has ${has} partitions, and that cannot be changed; it was asked for with ${wanted}. ` +
      `Leave the option out, or give ${has}, or begin in another directory.`,
  )
}
