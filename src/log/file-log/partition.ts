import { HenceError } from '../../failure.ts'
import type { Reporter } from '../../report.ts'
import { checkOffset, checkRecords, logClosed } from '../append-check.ts'
import type { Appended, Batch } from '../log.ts'
import type { LogTime } from '../log-time.ts'
import {
  batchBytes,
  flagContinued,
  flagSeal,
  hashOf,
  headerBytes,
  writeHeader,
  writeRecord,
} from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import type { DiskFile } from './disk.ts'
import { adoptSpare, type Findings, inspect, makeSpare, mend, type PartitionFiles } from './recovery.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { readSegment } from './segment-read.ts'
import { continuedIn, type Tip } from './tip.ts'

export interface PartitionOptions {
  readonly files: PartitionFiles
  readonly segmentBytes: number
  /** How long after the last append the seal is written, in milliseconds; 0: at once. */
  readonly sealAfterMs: number
  readonly time: LogTime
  readonly report: Reporter
}

/** An append that waits for its group commit. */
interface Waiting {
  readonly records: readonly Uint8Array[]
  readonly bytes: number
  readonly resolve: (appended: Appended) => void
  readonly reject: (error: Error) => void
}

/** How many bytes of records one group commit takes, if there is more than one append. */
const commitBytesMax = 8 * 1024 * 1024

/**
 * One partition: group commit, segments, reading. While a batch is being made durable the next one gathers,
 * and there is one writing at a time. After a write that failed nothing is known of the files any more, so
 * the next use goes through the same recovery as an opening.
 */
export class Partition {
  readonly #options: PartitionOptions
  readonly #files: PartitionFiles
  /** Undefined when a write has failed and recovery has not been through yet. */
  #tip: Tip | undefined
  #epoch = 0
  #segments: readonly Segment[] = []
  /** For each segment, where some of its batches begin; learned as they are written or read. */
  readonly #indexes = new Map<number, BatchIndex>()
  /** The last segment, open to write. */
  #file: DiskFile | undefined
  /** The next segment, made ahead of need; resolves to its size. */
  #spare: Promise<number> | undefined
  readonly #queue: Waiting[] = []
  readonly #waitingForTip: PromiseWithResolvers<Tip>[] = []
  #running: Promise<void> | undefined
  #sealDue = false
  #sealTimer: NodeJS.Timeout | undefined
  #closed = false
  #buffer = Buffer.allocUnsafeSlow(64 * 1024)

  constructor(options: PartitionOptions) {
    this.#options = options
    this.#files = options.files
  }

  /** Takes the partition into use after its files were looked at. */
  async open(findings: Findings): Promise<Tip> {
    await mend(this.#files, findings, this.#options.report)
    const { tip } = findings
    this.#segments = findings.segments
    this.#indexes.set(this.#segments.length - 1, findings.index)
    this.#epoch = tip.epoch + 1
    this.#options.time.atLeast(tip.time)
    await this.#openActive()
    this.#tip = tip
    this.#sealLater()
    return tip
  }

  append(records: readonly Uint8Array[]): Promise<Appended> {
    const bytes = checkRecords(records)
    if (this.#closed) throw logClosed()
    return new Promise((resolve, reject) => {
      this.#queue.push({ records, bytes, resolve, reject })
      this.#run()
    })
  }

  async end(): Promise<number> {
    return (await this.#recovered()).offset
  }

  async *read(from: number): AsyncGenerator<Batch> {
    checkOffset(this.#files.lineage.partition, from, (await this.#recovered()).offset)
    let number = this.#segments.findLastIndex((segment) => segment.baseOffset <= from)
    let hash: Buffer | undefined
    for (; number < this.#segments.length; number++) {
      const segment = this.#segments[number]!
      const isLast = () => segment.number === this.#segments.length - 1
      hash = yield* readSegment(this.#files, segment, {
        from,
        previous: hash,
        index: this.#indexOf(segment),
        limit: async () => {
          const tip = await this.#recovered()
          return isLast() ? tip.position : segment.size
        },
      })
      if (hash === undefined) return
    }
  }

  /** Waits for what was appended, seals, and lets the files go. */
  async close(): Promise<void> {
    if (this.#closed) return this.#running
    this.#closed = true
    clearTimeout(this.#sealTimer)
    this.#sealDue = true
    this.#run()
    await this.#running
    await this.#spare?.catch(() => undefined)
    await this.#file?.close()
  }

  /** The tip; first through a recovery when a write has failed. */
  #recovered(): Tip | Promise<Tip> {
    if (this.#closed) throw logClosed()
    if (this.#tip !== undefined) return this.#tip
    const waiting = Promise.withResolvers<Tip>()
    this.#waitingForTip.push(waiting)
    this.#run()
    return waiting.promise
  }

  #run(): void {
    this.#running ??= this.#work()
  }

  /** Does all that is due, one thing after the other. */
  async #work(): Promise<void> {
    await undefined // What is appended in the same turn goes into the same batch.
    while (this.#queue.length > 0 || this.#waitingForTip.length > 0 || this.#sealDue) {
      let taken: readonly Waiting[] = []
      try {
        // There is nothing to seal when a write has failed: recovery comes with the next use.
        if (this.#tip === undefined && (this.#queue.length > 0 || this.#waitingForTip.length > 0)) {
          await this.#recover()
        }
        for (const waiting of this.#waitingForTip.splice(0)) waiting.resolve(this.#tip!)
        taken = this.#takeQueued()
        if (taken.length > 0) await this.#commit(taken)
        else if (this.#sealDue) await this.#seal()
      } catch (error) {
        this.#fail(error, taken)
      }
    }
    this.#running = undefined
  }

  /** The appends that go into the next batch. */
  #takeQueued(): readonly Waiting[] {
    let count = 0
    for (let bytes = 0; count < this.#queue.length; count++) {
      bytes += this.#queue[count]!.bytes
      if (count > 0 && bytes > commitBytesMax) break
    }
    return this.#queue.splice(0, count)
  }

  async #commit(appends: readonly Waiting[]): Promise<void> {
    let count = 0
    let bytes = 0
    for (const append of appends) {
      count += append.records.length
      bytes += append.bytes
    }
    const total = batchBytes(count, bytes)
    await this.#makeRoom(total)
    if (this.#buffer.length < total)
      this.#buffer = Buffer.allocUnsafeSlow(Math.max(total, this.#buffer.length * 2))
    let at = headerBytes
    for (const append of appends) {
      for (const record of append.records) at = writeRecord(this.#buffer, at, record)
    }
    const time = this.#options.time.now()
    let { offset } = this.#tip!
    await this.#write(this.#buffer.subarray(0, total), count, 0, time, 'batch')
    for (const append of appends) {
      append.resolve({ offset, time })
      offset += append.records.length
    }
    this.#sealLater()
  }

  /** Vouches for the last batch, so that later damage to it is told from a torn write. */
  async #seal(): Promise<void> {
    this.#sealDue = false
    if (this.#tip === undefined || this.#tip.sealed) return
    if (this.#roomFor(headerBytes)) {
      await this.#write(Buffer.alloc(headerBytes), 0, flagSeal, this.#options.time.now(), 'seal')
    } else {
      await this.#roll(0)
    }
  }

  /** Seals when no append comes for a while. */
  #sealLater(): void {
    if (this.#closed || this.#tip!.sealed) return
    if (this.#options.sealAfterMs === 0) {
      this.#sealDue = true
      this.#run()
    } else if (this.#sealTimer === undefined) {
      const timer = setTimeout(() => {
        this.#sealDue = true
        this.#run()
      }, this.#options.sealAfterMs)
      this.#sealTimer = timer.unref()
    } else {
      this.#sealTimer.refresh()
    }
  }

  /** Completes a batch whose payload stands in place, and makes it durable. */
  async #write(batch: Buffer, count: number, flags: number, time: number, label: string): Promise<void> {
    const { position, offset, hash } = this.#tip!
    const header = {
      flags,
      epoch: this.#epoch,
      baseOffset: offset,
      durableOffset: offset,
      time,
      count,
      payloadBytes: batch.length - headerBytes,
    }
    writeHeader(batch, this.#files.lineage, header, hash)
    await this.#file!.write(batch, position)
    await this.#file!.sync(label)
    this.#indexOf(this.#segments.at(-1)!).note(offset, position)
    this.#tip = {
      position: position + batch.length,
      offset: offset + count,
      epoch: this.#epoch,
      time,
      hash: hashOf(batch),
      lastPosition: position,
      sealed: (flags & flagSeal) !== 0,
      continued: (flags & flagContinued) !== 0,
    }
  }

  /** Whether this many bytes fit into the segment, and the seal that ends it after them. */
  #roomFor(bytes: number): boolean {
    return this.#tip!.position + bytes + headerBytes <= this.#segments.at(-1)!.size
  }

  async #makeRoom(bytes: number): Promise<void> {
    if (!this.#roomFor(bytes)) await this.#roll(bytes)
    const { size } = this.#segments.at(-1)!
    if (this.#tip!.position + bytes <= size / 2 || this.#spare !== undefined) return
    this.#spare = makeSpare(this.#files, this.#options.segmentBytes)
    this.#spare.catch(() => undefined) // Whoever needs it tries again.
  }

  /**
   * Ends the segment and goes on in the next one, which has room for this many bytes. That one has its name
   * before the seal says that there is one: so a missing segment is always noticed.
   */
  async #roll(bytes: number): Promise<void> {
    const wanted = Math.max(this.#options.segmentBytes, segmentHeaderBytes + bytes + 2 * headerBytes)
    let size = await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    if (size === undefined || size < wanted) size = await makeSpare(this.#files, wanted)
    const next = await adoptSpare(this.#files, this.#segments.length, this.#tip!.offset, size)
    const time = this.#options.time.now()
    await this.#write(Buffer.alloc(headerBytes), 0, flagSeal | flagContinued, time, 'last seal')
    await this.#file!.close()
    this.#segments = [...this.#segments, next]
    await this.#openActive()
    this.#tip = continuedIn(this.#tip!)
  }

  async #openActive(): Promise<void> {
    this.#file = await this.#files.disk.open(this.#segments.at(-1)!.path, 'write')
  }

  /** Stops: tells all who wait, and trusts nothing in the files until they have been recovered. */
  #fail(error: unknown, taken: readonly Waiting[]): void {
    this.#tip = undefined
    this.#sealDue = false
    const failure = error instanceof HenceError ? error : writeFailed(this.#files.directory, error)
    for (const append of taken) append.reject(failure)
    for (const append of this.#queue.splice(0)) append.reject(failure)
    for (const waiting of this.#waitingForTip.splice(0)) waiting.reject(failure)
  }

  async #recover(): Promise<void> {
    await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    const file = this.#file
    this.#file = undefined
    await file?.close().catch(() => undefined) // It is of no use any more, whatever it says.
    await this.open(await inspect(this.#files))
  }

  #indexOf(segment: Segment): BatchIndex {
    let index = this.#indexes.get(segment.number)
    if (index === undefined) {
      index = new BatchIndex(segment.baseOffset)
      this.#indexes.set(segment.number, index)
    }
    return index
  }
}

function writeFailed(directory: string, cause: unknown): HenceError {
  return new HenceError(
    'log-write-failed',
    'retry',
    `The log could not write to ${directory}: ${(cause as Error).message}. ` +
      'What was being written is in the log whole or not at all; retry, and the log recovers first.',
    { cause },
  )
}
