import { randomBytes } from 'node:crypto'
import { assert } from '../../assert.ts'
import { type Clock, elapsed, setTimer } from '../../clock.ts'
import { HenceError } from '../../failure.ts'
import type { Reporter } from '../../report.ts'
import { checkOffset, checkRecords, logClosed } from '../append-check.ts'
import type { Appended, Batch } from '../log.ts'
import type { LogTime } from '../log-time.ts'
import { ActiveSegment, isFinal, lost, overtaken, writeFailed } from './active-segment.ts'
import {
  type BatchHeader,
  batchBytes,
  flagContinued,
  flagSeal,
  hashOf,
  headerBytes,
  writeHeader,
  writeRecord,
} from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import { type Findings, inspect } from './inspection.ts'
import { adoptSpare, makeSpare, type PartitionFiles } from './partition-files.ts'
import { readPartition, segmentOf } from './partition-read.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { continuedIn, type Tip } from './tip.ts'
import { mend } from './torn-tail.ts'

interface PartitionOptions {
  readonly files: PartitionFiles
  readonly segmentBytes: number
  /** How long after the last append the partition is sealed, in milliseconds; 0: at once. */
  readonly sealAfterMs: number
  readonly clock: Clock
  readonly time: LogTime
  readonly report: Reporter
  /** Throws `data-taken` if another process has taken the directory. */
  readonly own: () => void
}

/** An append that waits for its group commit. */
interface Waiting {
  readonly records: readonly Uint8Array[]
  readonly bytes: number
  readonly resolve: (appended: Appended) => void
  readonly reject: (error: Error) => void
}

/** The bytes of records in one group commit at most, if it holds more than one append. */
const commitBytesMax = 8 * 1024 * 1024

/**
 * One partition: group commit, segments, reading. While one batch is made durable (`active-segment.ts`) the
 * next one gathers; there is one write at a time. After a failed write nothing is known about the files, so
 * the next use recovers the partition first, as an opening does. Once the files are not as this process left
 * them, it writes nothing more.
 */
export class Partition {
  readonly #options: PartitionOptions
  readonly #files: PartitionFiles
  /** Undefined from a failed write until the partition has been recovered. */
  #tip: Tip | undefined
  /** The last tip that was durable: no recovery may find less. */
  #durable: Tip | undefined
  /** Why this process must not write any more. */
  #lost: HenceError | undefined
  #epoch = 0
  #nonce = Buffer.alloc(8)
  #segments: readonly Segment[] = []
  /** By segment number: where some batches begin, as far as they have been written or read. */
  readonly #indexes = new Map<number, BatchIndex>()
  #active: ActiveSegment | undefined
  /** The next segment, made ahead of need; resolves to its size. */
  #spare: Promise<number> | undefined
  readonly #queue: Waiting[] = []
  readonly #waitingForTip: PromiseWithResolvers<Tip>[] = []
  #running: Promise<void> | undefined
  #sealDue = false
  /** All records below it were derived. */
  #derived = 0
  /** Set while a timer runs that seals the partition. */
  #cancelSeal: (() => void) | undefined
  /** When the last batch was written; see `elapsed`. */
  #writtenAt = 0
  #closed = false
  #buffer = Buffer.allocUnsafeSlow(64 * 1024)

  constructor(options: PartitionOptions) {
    this.#options = options
    this.#files = options.files
  }

  /** Takes the partition into use, after its files were inspected. */
  async open(findings: Findings): Promise<Tip> {
    this.#options.own()
    await mend(this.#files, findings, this.#options.report)
    const { tip } = findings
    this.#segments = findings.segments
    this.#indexes.set(this.#segments.length - 1, findings.index)
    this.#epoch = tip.epoch + 1
    this.#nonce = randomBytes(8)
    this.#options.time.atLeast(tip.time)
    await this.#openActive(tip)
    this.#tip = tip
    this.#durable = tip
    this.#sealLater()
    return tip
  }

  append(records: readonly Uint8Array[]): Promise<Appended> {
    const bytes = checkRecords(records)
    if (this.#closed) throw logClosed()
    if (this.#lost) return Promise.reject(this.#lost)
    return new Promise((resolve, reject) => {
      this.#queue.push({ records, bytes, resolve, reject })
      this.#run()
    })
  }

  /** See `Log.derived`; the next batch or seal says so. */
  derived(offset: number): void {
    this.#derived = Math.max(this.#derived, offset)
    if (this.#tip !== undefined) this.#sealLater()
  }

  async tip(): Promise<Tip> {
    return this.#recovered()
  }

  async *read(from: number): AsyncGenerator<Batch> {
    checkOffset(this.#files.lineage.partition, from, (await this.#recovered()).offset)
    yield* readPartition(this.#files, from, {
      first: segmentOf(this.#segments, from),
      segment: (number) => this.#segments[number],
      index: (segment) => this.#indexOf(segment),
      limit: async ({ number, size }) => {
        const tip = await this.#recovered()
        return number === this.#segments.length - 1 ? tip.position : size
      },
    })
  }

  /** @throws HenceError `data-lost`, `data-taken` (operator) if the files are not as this process left them */
  async check(): Promise<void> {
    if (this.#lost) throw this.#lost
    const active = this.#active
    try {
      await active?.check()
    } catch (error) {
      if (isFinal(error)) this.#fail(error, [])
      // The partition may have left the segment meanwhile, and closed it.
      if (isFinal(error) || active === this.#active) throw error
    }
  }

  /**
   * Waits for pending appends, seals, and closes the files.
   * @throws HenceError `data-lost`, `data-taken` (operator) if the files are not as this process left them
   */
  async close(): Promise<void> {
    if (this.#closed) return this.#running
    this.#closed = true
    this.#cancelSeal?.()
    this.#sealDue = true
    this.#run()
    await this.#running
    await this.#spare?.catch(() => undefined)
    try {
      await this.check()
    } finally {
      await this.#active?.close()
    }
  }

  /** Returns the tip; after a failed write, recovers the partition first. */
  #recovered(): Tip | Promise<Tip> {
    if (this.#closed) throw logClosed()
    if (this.#lost) throw this.#lost
    if (this.#tip !== undefined) return this.#tip
    const waiting = Promise.withResolvers<Tip>()
    this.#waitingForTip.push(waiting)
    this.#run()
    return waiting.promise
  }

  #run(): void {
    this.#running ??= this.#work()
  }

  /** Does everything that is due, one thing after the other. */
  async #work(): Promise<void> {
    await undefined // Appends of one turn of the event loop go into one batch.
    while (this.#queue.length > 0 || this.#waitingForTip.length > 0 || this.#sealDue) {
      let taken: readonly Waiting[] = []
      try {
        // After a failed write there is nothing to seal; the next use recovers.
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

  /** Takes the appends of the next batch from the queue. */
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
    assert(at === total, 'a batch is as long as its records', at, total)
    const time = this.#options.time.now()
    let { offset } = this.#tip!
    const batch = { offset, hash: this.#tip!.hash }
    await this.#write(this.#buffer.subarray(0, total), { count, flags: 0, time }, 'batch')
    for (const append of appends) {
      append.resolve({ offset, time, batch })
      offset += append.records.length
    }
    assert(offset === this.#tip!.offset, 'every record of a batch gets an offset', offset, this.#tip!.offset)
    this.#sealLater()
  }

  /** Whether the log's end vouches for its last batch, and says how far the partition was derived. */
  get #isSealed(): boolean {
    return this.#tip!.sealed && this.#tip!.decided >= this.#derived
  }

  /**
   * Writes a seal: it vouches for the last batch, so that later damage to that is not taken for a torn write,
   * and for the outcomes of its records.
   */
  async #seal(): Promise<void> {
    this.#sealDue = false
    if (this.#tip === undefined || this.#isSealed) return
    if (this.#roomFor(headerBytes)) {
      // A seal brings no time into the log.
      const time = this.#options.time.last
      await this.#write(Buffer.alloc(headerBytes), { count: 0, flags: flagSeal, time }, 'seal')
    } else {
      await this.#roll(0)
    }
  }

  /** Seals the partition when no append comes for a while. */
  #sealLater(): void {
    if (this.#closed || this.#isSealed) return
    if (this.#options.sealAfterMs === 0) {
      this.#sealDue = true
      this.#run()
    } else {
      const { clock, sealAfterMs } = this.#options
      this.#writtenAt = elapsed(clock)
      this.#cancelSeal ??= setTimer(clock, sealAfterMs, this.#sealIfIdle, false)
    }
  }

  /** Seals the partition, or waits on if a batch was written meanwhile. */
  readonly #sealIfIdle = (): void => {
    const { clock, sealAfterMs } = this.#options
    const left = this.#writtenAt + sealAfterMs - elapsed(clock)
    // The runtime's timers can be a fraction of a millisecond early.
    this.#cancelSeal = left < 1 ? undefined : setTimer(clock, left, this.#sealIfIdle, false)
    if (left >= 1) return
    this.#sealDue = true
    this.#run()
  }

  /**
   * Writes the header of a batch whose payload is in place, then the batch, and makes it durable.
   * @param next the segment in which the partition continues after the batch
   */
  async #write(
    batch: Buffer,
    given: Pick<BatchHeader, 'count' | 'flags' | 'time'>,
    label: string,
    next?: Segment,
  ): Promise<void> {
    const { position, offset, hash, time: before, decided: decidedBefore } = this.#tip!
    const { count, flags, time } = given
    const decided = Math.max(this.#derived, decidedBefore)
    assert(time >= before, 'log time never goes backwards', time, before)
    assert(decided <= offset, 'only records in the log were derived', decided, offset)
    const header = {
      ...given,
      decided,
      epoch: this.#epoch,
      nonce: this.#nonce,
      baseOffset: offset,
      durableOffset: offset,
      payloadBytes: batch.length - headerBytes,
    }
    writeHeader(batch, this.#files.lineage, header, hash)
    await this.#active!.write(batch, this.#epoch, label)
    this.#indexOf(this.#segments.at(-1)!).add(offset, position)
    const tip = {
      position: position + batch.length,
      offset: offset + count,
      epoch: this.#epoch,
      time,
      decided,
      hash: hashOf(batch),
      lastPosition: position,
      sealed: (flags & flagSeal) !== 0,
      continued: next !== undefined,
    }
    // Both at once, so that no reader finds a segment that continues in none.
    if (next !== undefined) this.#segments = [...this.#segments, next]
    this.#tip = next === undefined ? tip : continuedIn(tip)
    this.#durable = this.#tip
  }

  /** Whether this many bytes fit into the segment, and after them the seal that ends it. */
  #roomFor(bytes: number): boolean {
    return this.#tip!.position + bytes + headerBytes <= this.#segments.at(-1)!.size
  }

  async #makeRoom(bytes: number): Promise<void> {
    if (!this.#roomFor(bytes)) await this.#roll(bytes)
    const { size } = this.#segments.at(-1)!
    if (this.#tip!.position + bytes <= size / 2 || this.#spare !== undefined) return
    await this.#active!.check()
    this.#spare = makeSpare(this.#files, this.#options.segmentBytes)
    this.#spare.catch(() => undefined) // The roll that needs it tries again.
  }

  /**
   * Ends the segment and continues in the next one, which has room for this many bytes. The next one gets its
   * name before the seal says that it exists, so a missing segment is always noticed.
   */
  async #roll(bytes: number): Promise<void> {
    const wanted = Math.max(this.#options.segmentBytes, segmentHeaderBytes + bytes + 2 * headerBytes)
    let size = await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    await this.#active!.check()
    if (size === undefined || size < wanted) size = await makeSpare(this.#files, wanted)
    const next = await adoptSpare(this.#files, this.#segments.length, this.#tip!.offset, size)
    const time = this.#options.time.last
    const last = { count: 0, flags: flagSeal | flagContinued, time }
    await this.#write(Buffer.alloc(headerBytes), last, 'last seal', next)
    const active = this.#active
    this.#active = undefined
    await active!.close()
    await this.#openActive(this.#tip!)
  }

  async #openActive(tip: Tip): Promise<void> {
    this.#active = await ActiveSegment.open(
      this.#files,
      this.#segments.at(-1)!,
      tip.position,
      this.#options.own,
    )
  }

  /** Rejects everything that waits, and trusts nothing in the files until the partition has been recovered. */
  #fail(error: unknown, taken: readonly Waiting[]): void {
    this.#tip = undefined
    this.#sealDue = false
    const failure = error instanceof HenceError ? error : writeFailed(this.#files.directory, error)
    if (isFinal(failure)) this.#lost ??= failure
    for (const append of taken) append.reject(failure)
    for (const append of this.#queue.splice(0)) append.reject(failure)
    for (const waiting of this.#waitingForTip.splice(0)) waiting.reject(failure)
  }

  async #recover(): Promise<void> {
    await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    const active = this.#active
    this.#active = undefined
    await active?.close().catch(() => undefined) // The file is given up either way.
    this.#options.own()
    const findings = await inspect(this.#files)
    this.#checkNoLoss(findings)
    await this.open(findings)
  }

  /** A recovery may find more than what was durable before, by this process, and never less. */
  #checkNoLoss({ tip, segments }: Findings): void {
    const { path } = segments.at(-1)!
    const durable = this.#durable!
    if (tip.epoch > this.#epoch) throw overtaken(path, tip.position, tip.epoch, this.#epoch)
    if (tip.offset >= durable.offset) return
    throw lost(
      path,
      `it ends at offset ${tip.offset}, but records before offset ${durable.offset} were durable`,
    )
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
