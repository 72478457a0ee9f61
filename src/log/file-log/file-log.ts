import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { changeError, operatorError } from '../../failure.ts'
import { printReport, type Reporter } from '../../report.ts'
import { checkPartition, logClosed } from '../append-check.ts'
import type { Carrier, CarrierFacts } from '../carrier.ts'
import type { Appended, Batch, Log } from '../log.ts'
import { LogTime } from '../log-time.ts'
import { checkExists } from './active-segment.ts'
import { CarriedPartition } from './carried.ts'
import { type CarrierNote, readNote, writeNote } from './carrier-note.ts'
import { type Disk, makeDirectories, realDisk } from './disk.ts'
import { inspect } from './inspection.ts'
import { type Meta, metaPath, readMeta, writeMeta } from './meta.ts'
import { Partition } from './partition.ts'
import { type PartitionFiles, partitionFilesOf, unfinishedFiles } from './partition-files.ts'
import { makeSegment, segmentName } from './segment.ts'

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
  /** Throws `data-taken` (operator) if another process has taken the directory; called around each write. */
  readonly own?: () => void
  /** The carrier that has the log; the folder is then a copy of it. Default: none, the folder is the log. */
  readonly carrier?: Carrier | undefined
  /** Only copy from the carrier, until `claim`. Default false: take the log, so that this process writes it. */
  readonly follow?: boolean | undefined
  /** The id of a new log: 32 lower-case hexadecimal digits. Default: random. */
  readonly newLogId?: string
}

/**
 * Opens the log in a directory, or makes a new one; docs/reference/log-format.md describes the bytes. The
 * caller must hold the directory's lock.
 *
 * A torn end, left by a crash in the middle of a write, is copied aside, cut off and reported. Anything else
 * that is not as it was written is damage; then nothing is changed.
 * @throws HenceError `partitions-mismatch`, `log-is-a-copy`, `log-differs` (change), `log-damaged`,
 *   `log-format-unknown`, `carrier-lost-records`, `carrier-damaged`, `carrier-unusable` (operator),
 *   `log-read-failed`, `carrier-unreachable`, `log-taken` (retry)
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
  const { carrier } = options
  const note = await readNote(disk, directory)
  if (note !== undefined && carrier === undefined) throw isACopy(directory, note)
  let meta = await readMeta(disk, directory)
  const { partitions: count = 1, newLogId: logId = randomBytes(16).toString('hex') } = options
  let facts: CarrierFacts = { logId, partitions: meta?.partitions ?? count, segmentBytes: 0 }
  facts = { ...facts, segmentBytes: options.segmentBytes ?? segmentBytesFor(facts.partitions) }
  if (meta === undefined) checkCount(facts.partitions)
  if (carrier !== undefined) facts = await factsOf(carrier, facts, directory, meta)
  if (options.partitions !== undefined && options.partitions !== facts.partitions) {
    throw mismatch(carrier?.name ?? options.directory, facts.partitions, options.partitions)
  }
  if (meta === undefined) {
    if (carrier !== undefined) await writeNote(disk, directory, { carrier: carrier.name, known: [] })
    meta = await make(disk, directory, facts)
  }
  // After a crash the name may exist only in memory, because the machine kept running.
  await disk.syncDirectory(directory, 'meta name')

  const partitionsFiles = partitionFilesOf(disk, directory, meta, carrier !== undefined)
  // All are inspected before any is changed: damage in one leaves the others as they are.
  const findings = []
  for (const files of partitionsFiles) findings.push(await inspect(files))
  const time = new LogTime(clock)
  const shared = { segmentBytes: facts.segmentBytes, sealAfterMs, clock, time, report, own }
  const copy = carrier && new Copy(carrier, partitionsFiles, note)
  const partitions = partitionsFiles.map(
    (files, index) => new Partition({ ...shared, files, ...copy?.of(index) }),
  )
  const log = new FileLog(meta, partitions, time, () => checkExists(disk, metaPath(directory)), copy)
  try {
    for (const [index, partition] of partitions.entries()) await partition.open(findings[index]!)
    await copy?.begin()
    if (copy !== undefined) await (options.follow ? log.catchUp() : log.claim())
  } catch (error) {
    // Partitions that were opened before would still be sealed, under the next owner.
    await log.close().catch(() => {})
    throw error
  }
  return log
}

/** A log in files; see `openFileLog`. */
export class FileLog implements Log {
  readonly id: string
  readonly partitions: number
  readonly #partitions: readonly Partition[]
  readonly #time: LogTime
  readonly #checkMeta: () => Promise<void>
  readonly #copy: Copy | undefined
  #closed = false

  constructor(
    meta: Meta,
    partitions: readonly Partition[],
    time: LogTime,
    checkMeta: () => Promise<void>,
    copy: Copy | undefined,
  ) {
    this.#copy = copy
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

  /**
   * Checks that the files are as this process left them: that they exist, and how each partition ends.
   * @throws HenceError `data-lost`, `data-taken` (operator)
   */
  async check(): Promise<void> {
    if (this.#closed) throw logClosed()
    for (const partition of this.#partitions) await partition.check()
    await this.#checkMeta()
  }

  /** Copies what is new in the carrier. */
  async catchUp(): Promise<void> {
    const isRead = await this.#copy?.whole()
    await Promise.all(this.#partitions.map((partition, index) => isRead?.[index] || partition.catchUp()))
  }

  /**
   * Takes the log in the carrier, so that this process writes it, and no earlier one does. Until then a log
   * that was opened with `follow` refuses appends.
   * @param epoch the last one that was seen: fails with `log-followed` (retry) if another process was faster
   */
  async claim(epoch?: number): Promise<void> {
    // The first one alone, so that of two processes one mostly has all partitions.
    const [first, ...others] = this.#partitions
    await first!.claim(epoch)
    await Promise.all(others.map((partition) => partition.claim()))
    // Another process may have taken the first ones meanwhile.
    await this.catchUp()
  }

  /** The epoch of the copy: it grows when a process takes the log. */
  async epoch(): Promise<number> {
    return (await this.#partitions[0]!.tip()).epoch
  }

  /** Only follows again, after a claim, or what was to come with it, has failed: another may be active by then. */
  async stepBack(): Promise<void> {
    await Promise.all(this.#partitions.map((partition) => partition.stepBack()))
  }

  /** Waits for pending appends, and says how far the log is derived; see `derived`. */
  async seal(): Promise<void> {
    await Promise.all(this.#partitions.map((partition) => partition.seal()))
  }

  async close(): Promise<void> {
    this.#closed = true
    const closed = await Promise.allSettled(this.#partitions.map((partition) => partition.close()))
    for (const each of closed) if (each.status === 'rejected') throw each.reason
    await this.#copy?.write()
    await this.#checkMeta()
  }

  #open(partition: number): Partition {
    if (this.#closed) throw logClosed()
    checkPartition(partition, this.partitions)
    return this.#partitions[partition]!
  }
}

/** The folder of a log as a copy of what a carrier has. */
class Copy {
  readonly #carrier: Carrier
  readonly #disk: Disk
  readonly #folder: string
  readonly #partitions: readonly CarriedPartition[]
  #isFound = false
  #written = Promise.resolve()

  constructor(carrier: Carrier, partitions: readonly PartitionFiles[], note: CarrierNote | undefined) {
    this.#carrier = carrier
    const [{ disk, directory }] = partitions as [PartitionFiles]
    this.#disk = disk
    this.#folder = dirname(directory)
    this.#partitions = partitions.map(
      ({ lineage }, index) => new CarriedPartition(carrier, lineage, note?.known[index]),
    )
  }

  of(partition: number): { carried: CarriedPartition; kept: () => Promise<void> } {
    return { carried: this.#partitions[partition]!, kept: () => this.write() }
  }

  /** By partition: whether all of it was read; undefined where that takes as long as reading. */
  async whole(): Promise<readonly boolean[] | undefined> {
    const ends = await this.#carrier.ends?.()
    return ends?.map((end, partition) => end > 0 && end === this.#partitions[partition]!.next)
  }

  /** The ends of the copy were found in the carrier: from here on it is one. */
  begin(): Promise<void> {
    this.#isFound = true
    return this.write()
  }

  async write(): Promise<void> {
    if (!this.#isFound) return
    this.#written = this.#written
      .catch(() => {})
      .then(() => {
        const known = this.#partitions.map(({ kept }) => kept)
        return writeNote(this.#disk, this.#folder, { carrier: this.#carrier.name, known })
      })
    return this.#written
  }
}

/** The facts of a log in a carrier, which gets those given if it has none. */
async function factsOf(
  carrier: Carrier,
  made: CarrierFacts,
  directory: string,
  meta: Meta | undefined,
): Promise<CarrierFacts> {
  // A log that is here already must be there too.
  const facts = await carrier.facts(meta === undefined ? made : undefined)
  if (((await carrier.get(copying))?.length ?? 0) > 0) throw incomplete(carrier)
  if (facts !== undefined && (meta === undefined || meta.logId === facts.logId)) return facts
  throw logDiffers(carrier, facts, directory, meta!)
}

export const logDiffers = (
  carrier: Carrier,
  facts: CarrierFacts | undefined,
  directory: string,
  meta: Meta,
) =>
  changeError(
    'log-differs',
    `${directory} has log ${meta.logId}, and ${carrier.name} has ${facts ? `log ${facts.logId}` : 'no log'}. ` +
      'Nothing was changed. Give the directory that belongs to it, or a new one; `hence log copy` copies a log ' +
      'to where there is none.',
  )

/** The name of a note in a carrier while a log is copied into it: nobody may write there before it is whole. */
export const copying = 'copying'

const incomplete = ({ name }: Carrier) =>
  operatorError(
    'log-incomplete',
    `A log is being copied into ${name}, and not all of it is there. Nothing was changed. Wait until the copying ` +
      'is done; if it was interrupted, run the same `hence log copy` again.',
  )

const isACopy = (directory: string, { carrier }: CarrierNote) =>
  changeError(
    'log-is-a-copy',
    `${directory} is a copy of the log in ${carrier}, and only what is there counts. Give that as the log ` +
      '(`--log` on the command line), or make a log of its own from it with `hence log copy`.',
  )

const partitionsMax = 1024

function checkCount(partitions: number): void {
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > partitionsMax) {
    throw changeError(
      'option-invalid',
      `The number of partitions must be a whole number from 1 to ${partitionsMax}, not ${partitions}.`,
    )
  }
}

/** Makes a new log. `meta.json` comes last; files left by an attempt that did not finish are replaced. */
async function make(disk: Disk, directory: string, { segmentBytes, ...meta }: CarrierFacts): Promise<Meta> {
  for (const path of await unfinishedFiles(disk, directory)) await disk.remove(path)
  for (const files of partitionFilesOf(disk, directory, meta)) {
    await makeDirectories(disk, files.directory, 'partition directory')
    await makeSegment(disk, join(files.directory, segmentName(0, 0)), files.lineage, segmentBytes)
    await disk.syncDirectory(files.directory, 'first segment')
  }
  await writeMeta(disk, directory, meta)
  return meta
}

/** Recovery reads the last segment of each partition, so a log of many partitions has smaller segments. */
function segmentBytesFor(partitions: number): number {
  const mebibyte = 1024 * 1024
  return Math.max(4 * mebibyte, Math.min(64 * mebibyte, Math.floor((256 * mebibyte) / partitions)))
}

const mismatch = (directory: string, has: number, wanted: number) =>
  changeError(
    'partitions-mismatch',
    `The log in ${directory} has ${has} partitions, and that cannot be changed; the option says ${wanted}. ` +
      `Leave the option out, or give ${has}, or begin in another directory.`,
  )
