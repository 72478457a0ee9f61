import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { HenceError } from '../../failure.ts'
import { printReport, type Reporter } from '../../report.ts'
import { checkPartition, logClosed } from '../append-check.ts'
import type { Appended, Batch, Log } from '../log.ts'
import { LogTime } from '../log-time.ts'
import { checkExists } from './active-segment.ts'
import { damaged } from './damage.ts'
import { type Disk, makeDirectories, realDisk } from './disk.ts'
import { inspect } from './inspection.ts'
import { type Meta, metaPath, readMeta, writeMeta } from './meta.ts'
import { Partition } from './partition.ts'
import { partitionFilesOf } from './partition-files.ts'
import { makeSegment, parseSegmentName, segmentHeaderBytes, segmentName, spareName } from './segment.ts'
import { findJunkEnd } from './segment-scan.ts'

interface FileLogOptions {
  /** The data directory; the log is its folder `log`. */
  readonly directory: string
  /** The number of partitions, 1 to 1,024. An existing log must have as many. Default: those of the log, or 1. */
  readonly partitions?: number | undefined
  readonly clock?: Clock
  readonly report?: Reporter
  /** The size of a segment file. Default 64 MiB; less for many partitions. */
  readonly segmentBytes?: number
  /** How long after its last append a partition is sealed, in milliseconds. Default 200. */
  readonly sealAfterMs?: number
  readonly disk?: Disk
  /**
   * Throws `data-taken` (operator) if another process has taken the directory; called before and after each
   * write.
   */
  readonly own?: () => void
  /** The id of a new log: 32 lower-case hexadecimal digits. Default: random. */
  readonly newLogId?: string
}

/**
 * Opens the log in a directory, or makes a new one; docs/reference/log-format.md describes the bytes. The
 * caller must hold the directory's lock.
 *
 * A torn end, left by a crash in the middle of a write, is copied aside, cut off and reported. Anything else
 * that is not as it was written is damage; then nothing is changed.
 * @throws HenceError `partitions-mismatch` (change), `log-damaged`, `log-format-unknown` (operator),
 *   `log-read-failed` (retry)
 */
export async function openFileLog(options: FileLogOptions): Promise<FileLog> {
  const {
    disk = realDisk,
    clock = systemClock,
    report = printReport,
    sealAfterMs = 200,
    own = () => {},
  } = options
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
  // After a crash the name may exist only in memory, because the machine kept running.
  await disk.syncDirectory(directory, 'meta name')

  const partitionsFiles = partitionFilesOf(disk, directory, meta)
  // All are inspected before any is changed: damage in one leaves the others as they are.
  const findings = []
  for (const files of partitionsFiles) findings.push(await inspect(files))
  const time = new LogTime(clock)
  const segmentBytes = options.segmentBytes ?? segmentBytesFor(meta.partitions)
  const partitions = partitionsFiles.map(
    (files) => new Partition({ files, segmentBytes, sealAfterMs, clock, time, report, own }),
  )
  for (const [index, partition] of partitions.entries()) await partition.open(findings[index]!)
  return new OpenFileLog(meta, partitions, time, () => checkExists(disk, metaPath(directory)))
}

/** A log in files. */
export interface FileLog extends Log {
  /**
   * Checks that the files are as this process left them: that they exist, and how each partition ends.
   * @throws HenceError `data-lost`, `data-taken` (operator)
   */
  check(): Promise<void>
}

class OpenFileLog implements FileLog {
  readonly id: string
  readonly partitions: number
  readonly #partitions: readonly Partition[]
  readonly #time: LogTime
  readonly #checkMeta: () => Promise<void>
  #closed = false

  constructor(meta: Meta, partitions: readonly Partition[], time: LogTime, checkMeta: () => Promise<void>) {
    this.id = meta.logId
    this.partitions = meta.partitions
    this.#partitions = partitions
    this.#time = time
    this.#checkMeta = checkMeta
  }

  async append(partition: number, records: readonly Uint8Array[]): Promise<Appended> {
    return this.#open(partition).append(records)
  }

  async *read(partition: number, from: number): AsyncGenerator<Batch> {
    yield* this.#open(partition).read(from)
  }

  follow(clock: Pick<Clock, 'now'>): number {
    this.#time.follow(clock)
    return this.#time.last
  }

  derived(partition: number, offset: number): void {
    if (!this.#closed) this.#open(partition).derived(offset)
  }

  async decided(partition: number): Promise<number> {
    return (await this.#open(partition).tip()).decided
  }

  async end(partition: number): Promise<number> {
    return (await this.#open(partition).tip()).offset
  }

  async check(): Promise<void> {
    if (this.#closed) throw logClosed()
    for (const partition of this.#partitions) await partition.check()
    await this.#checkMeta()
  }

  async close(): Promise<void> {
    this.#closed = true
    const closed = await Promise.allSettled(this.#partitions.map((partition) => partition.close()))
    for (const each of closed) if (each.status === 'rejected') throw each.reason
    await this.#checkMeta()
  }

  #open(partition: number): Partition {
    if (this.#closed) throw logClosed()
    checkPartition(partition, this.partitions)
    return this.#partitions[partition]!
  }
}

const partitionsMax = 1024

/** Makes a new log. `meta.json` comes last; files left by an attempt that did not finish are replaced. */
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

/** Removes the files of a partition whose making was not finished, once it is certain that they hold no record. */
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

/** Recovery reads the last segment of each partition, so a log of many partitions has smaller segments. */
function segmentBytesFor(partitions: number): number {
  const mebibyte = 1024 * 1024
  return Math.max(4 * mebibyte, Math.min(64 * mebibyte, Math.floor((256 * mebibyte) / partitions)))
}

function mismatch(directory: string, has: number, wanted: number): HenceError {
  return new HenceError(
    'partitions-mismatch',
    'change',
    `The log in ${directory} has ${has} partitions, and that cannot be changed; the option says ${wanted}. ` +
      `Leave the option out, or give ${has}, or begin in another directory.`,
  )
}
