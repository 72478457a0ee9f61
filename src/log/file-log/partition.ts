// This file is longer than 400 lines, because all that is written to a partition is written in one turn here.
import { randomBytes } from 'node:crypto'
import { assert } from '../../assert.ts'
import { type Clock, elapsed, setTimer } from '../../clock.ts'
import { HenceError } from '../../failure.ts'
import type { Reporter } from '../../report.ts'
import { checkOffset, checkRecords, logClosed } from '../append-check.ts'
import type { Appended, Batch } from '../log.ts'
import type { LogTime } from '../log-time.ts'
import { isFinal, lost, overtaken, writeFailed } from './active-segment.ts'
import { AppendQueue, BatchBuffer, type WaitingAppend } from './append-queue.ts'
import {
  type BatchHeader,
  flagContinued,
  flagSeal,
  hashOf,
  headerBytes,
  isContinued,
  writeHeader,
} from './batch.ts'
import { type CarriedPartition, isUnsure, onlyFollowed, unsure } from './carried.ts'
import { type Findings, inspect } from './inspection.ts'
import type { PartitionFiles } from './partition-files.ts'
import { readPartition, segmentOf } from './partition-read.ts'
import { segmentHeaderBytes } from './segment.ts'
import type { Tip } from './tip.ts'
import { mend } from './torn-tail.ts'
import { WrittenSegments, type WrittenSegmentsOptions } from './written-segments.ts'

interface PartitionOptions extends WrittenSegmentsOptions {
  /** How long after the last append the partition is sealed, in milliseconds; 0: at once. */
  readonly sealAfterMs: number
  readonly clock: Clock
  readonly time: LogTime
  readonly report: Reporter
  /** The partition in the carrier of which the files are a copy; undefined: the files are the log. */
  readonly carried?: CarriedPartition | undefined
  /** Called when the copy has become durable up to a later batch. */
  readonly kept?: (() => Promise<void>) | undefined
}

/** How often a partition is tried to be taken at a time, while others write there too. */
const takingMax = 20

/**
 * One partition: group commit, segments, reading. While one batch is made durable (`active-segment.ts`) the
 * next one gathers; there is one write at a time. After a failed write nothing is known about the files, so
 * the next use recovers the partition first, as an opening does. Once the files are not as this process left
 * them, it writes nothing more.
 *
 * With a carrier, a batch is written to the files once it is live there, and so the files hold the same bytes
 * on every machine. To recover is to take the partition anew, with a seal of a new epoch: then the carrier
 * says which of the batches before are live.
 */
export class Partition {
  readonly #options: PartitionOptions
  readonly #files: PartitionFiles
  /** The segments as the last recovery found them, and what was written since. */
  #written: WrittenSegments | undefined
  /** False from a failed write until the partition has been recovered. */
  #isKnown = false
  /** The last tip that was durable: no recovery may find less. */
  #durable: Tip | undefined
  /** Why this process must not write any more. */
  #lost: HenceError | undefined
  #epoch = 0
  #nonce = Buffer.alloc(8)
  readonly #queue = new AppendQueue()
  readonly #waitingForTip: PromiseWithResolvers<Tip>[] = []
  #running: Promise<void> | undefined
  #sealDue = false
  /** Reads of what is new in the carrier that are due. */
  readonly #readings: PromiseWithResolvers<void>[] = []
  /** Whether this process writes the partition, or follows it. */
  #isOwner: boolean
  /** Until this process has taken the partition, nobody may rely on its tip. */
  #isTaking = false
  /** With a later epoch in the carrier the partition is not taken. */
  #epochMax = Number.POSITIVE_INFINITY
  /** All records below it were derived. */
  #derived = 0
  /** Set while a timer runs that seals the partition. */
  #cancelSeal: (() => void) | undefined
  /** When the last batch was written; see `elapsed`. */
  #writtenAt = 0
  #closed = false
  readonly #buffer: BatchBuffer

  constructor(options: PartitionOptions) {
    this.#options = options
    this.#files = options.files
    this.#isOwner = options.carried === undefined
    this.#buffer = new BatchBuffer(!options.files.isCopy)
  }

  /** Takes the partition into use, after its files were inspected. */
  async open(findings: Findings): Promise<Tip> {
    this.#options.own()
    await mend(this.#files, findings, this.#options.report)
    const { tip } = findings
    this.#epoch = tip.epoch + 1
    this.#nonce = randomBytes(8)
    this.#options.time.atLeast(tip.time)
    this.#written = await WrittenSegments.open(this.#options, findings)
    this.#isKnown = true
    this.#durable = tip
    await this.#options.carried?.find(tip)
    this.#sealLater()
    return tip
  }

  /**
   * Takes the partition in the carrier: from here on this process writes it, and no earlier one does.
   * @param epoch the last one that is known; a later one says that another process has been faster
   * @throws HenceError `log-followed` (retry) if one has
   */
  async claim(epoch = Number.POSITIVE_INFINITY): Promise<void> {
    this.#isOwner = true
    this.#isTaking = true
    this.#epochMax = epoch
    await this.#recovered()
  }

  /** From here on this process only follows the partition, until the next `claim`. */
  async stepBack(): Promise<void> {
    await this.#running
    this.#isOwner = this.#isTaking = false
    this.#options.carried?.gaveUp()
  }

  async catchUp(): Promise<void> {
    if (this.#closed) throw logClosed()
    if (this.#lost) throw this.#lost
    this.#readings.push(Promise.withResolvers())
    this.#run()
    return this.#readings.at(-1)!.promise
  }

  append(records: readonly Uint8Array[]): Promise<Appended> {
    const bytes = checkRecords(records, this.#options.carried?.batchBytesMax)
    if (this.#closed) throw logClosed()
    if (this.#lost) return Promise.reject(this.#lost)
    if (!this.#isOwner) return Promise.reject(onlyFollowed())
    const appended = this.#queue.add(records, bytes)
    this.#run()
    return appended
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
      first: segmentOf(this.#written!.list, from),
      segment: (number) => this.#written!.list[number],
      index: (segment) => this.#written!.indexOf(segment),
      limit: async (segment) => {
        await this.#recovered()
        return this.#written!.limitOf(segment)
      },
    })
  }

  async check(): Promise<void> {
    if (this.#lost) throw this.#lost
    try {
      await this.#written?.check()
    } catch (error) {
      if (isFinal(error)) this.#fail(error, [])
      throw error
    }
  }

  async seal(): Promise<void> {
    this.#sealDue = true
    this.#run()
    await this.#running
  }

  /**
   * Waits for pending appends, seals, and closes the files.
   * @throws HenceError `data-lost`, `data-taken` (operator) if the files are not as this process left them
   */
  async close(): Promise<void> {
    if (this.#closed) return this.#running
    this.#closed = true
    this.#cancelSeal?.()
    await this.seal()
    try {
      // The files of a log that another process has taken are as they were left.
      if (this.#lost?.code !== 'log-taken') await this.check()
    } finally {
      await this.#written?.close()
      this.#options.carried?.keep()
    }
  }

  /** Returns the tip; after a failed write, recovers the partition first. */
  #recovered(): Tip | Promise<Tip> {
    if (this.#closed) throw logClosed()
    if (this.#lost) throw this.#lost
    if (this.#tip !== undefined && !this.#isTaking) return this.#tip
    const waiting = Promise.withResolvers<Tip>()
    this.#waitingForTip.push(waiting)
    this.#run()
    return waiting.promise
  }

  /** The end of the partition; undefined where it is not known. */
  get #tip(): Tip | undefined {
    return this.#isKnown ? this.#written!.tip : undefined
  }

  #run(): void {
    this.#running ??= this.#work()
  }

  async #work(): Promise<void> {
    await undefined // Appends of one turn of the event loop go into one batch.
    while (this.#isWanted || this.#sealDue) {
      let taken: readonly WaitingAppend[] = []
      try {
        // After a failed write there is nothing to seal; the next use recovers.
        if ((this.#tip === undefined || this.#isTaking) && this.#isWanted) await this.#recover()
        else if (this.#readings.length > 0) await this.#readOn()
        for (const reading of this.#readings.splice(0)) reading.resolve()
        for (const waiting of this.#waitingForTip.splice(0)) waiting.resolve(this.#tip!)
        taken = this.#queue.take(this.#options.carried?.batchBytesMax)
        if (taken.length > 0) await this.#commit(taken)
        else if (this.#sealDue) await this.#seal()
      } catch (error) {
        this.#fail(error, taken)
      }
    }
    this.#running = undefined
  }

  get #isWanted(): boolean {
    return !this.#queue.isEmpty || this.#waitingForTip.length > 0 || this.#readings.length > 0
  }

  async #commit(appends: readonly WaitingAppend[]): Promise<void> {
    const { bytes, count } = this.#buffer.batchOf(appends)
    await this.#makeRoom(bytes.length)
    const time = this.#options.time.now()
    let { offset } = this.#tip!
    const batch = { offset, hash: this.#tip!.hash }
    await this.#write(bytes, { count, flags: 0, time }, 'batch')
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

  /** Writes a seal: it vouches for the last batch, whose damage is then no torn write, and outcomes. */
  async #seal(): Promise<void> {
    this.#sealDue = false
    if (this.#tip !== undefined && !this.#isSealed && this.#isOwner) await this.#writeSeal()
  }

  async #writeSeal(): Promise<void> {
    if (this.#written!.roomFor(headerBytes)) {
      // A seal brings no time into the log.
      const time = this.#options.time.last
      await this.#write(Buffer.alloc(headerBytes), { count: 0, flags: flagSeal, time }, 'seal')
    } else {
      await this.#roll(0)
    }
  }

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
   * @param nextBytes the size of the segment in which the partition continues, if the batch says so
   */
  async #write(
    batch: Buffer,
    given: Pick<BatchHeader, 'count' | 'flags' | 'time'>,
    label: string,
    nextBytes?: number,
  ): Promise<void> {
    const { offset, hash: before, time: timeBefore, decided: decidedBefore } = this.#tip!
    const decided = Math.max(this.#derived, decidedBefore)
    assert(given.time >= timeBefore, 'log time never goes backwards', given.time, timeBefore)
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
    writeHeader(batch, this.#files.lineage, header, before)
    const hash = hashOf(batch)
    const { carried } = this.#options
    if (carried && !(await carried.append({ bytes: batch, before, hash, offset })))
      throw unsure(this.#files.lineage.partition)
    await this.#add(batch, header, hash, label, nextBytes)
    carried?.wrote(hash)
  }

  async #add(...given: Parameters<WrittenSegments['add']>): Promise<void> {
    await this.#written!.add(...given)
    this.#durable = this.#written!.tip
    if (!isContinued(given[1])) return
    this.#options.carried?.keep()
    await this.#options.kept?.()
  }

  async #makeRoom(bytes: number): Promise<void> {
    const written = this.#written!
    // A segment of a copy that is still empty grows.
    const isEmpty = this.#files.isCopy && written.tip.lastPosition === undefined
    if (!written.roomFor(bytes) && !isEmpty) await this.#roll(bytes)
    await written.makeSpare(bytes)
  }

  /** Ends the segment and continues in the next one, which has room for this many bytes. */
  async #roll(bytes: number): Promise<void> {
    const { carried, segmentBytes } = this.#options
    const seal = { count: 0, flags: flagSeal | flagContinued, time: this.#options.time.last }
    // Readers of a carrier do not know yet what comes next; a segment grows where that is needed.
    const wanted = carried ? 0 : segmentHeaderBytes + bytes + 2 * headerBytes
    await this.#write(Buffer.alloc(headerBytes), seal, 'last seal', Math.max(segmentBytes, wanted))
  }

  /** Rejects everything that waits, and trusts nothing in the files until the partition has been recovered. */
  #fail(error: unknown, taken: readonly WaitingAppend[]): void {
    const failure = error instanceof HenceError ? error : writeFailed(this.#files.directory, error)
    // While a carrier cannot be reached, its copy may be read.
    if (this.#isOwner || failure.code !== 'carrier-unreachable') this.#isKnown = false
    this.#sealDue = false
    if (isFinal(failure)) this.#lost ??= failure
    for (const append of taken) append.reject(failure)
    this.#queue.reject(failure)
    for (const waiting of this.#waitingForTip.splice(0)) waiting.reject(failure)
    for (const reading of this.#readings.splice(0)) reading.reject(failure)
  }

  async #readOn(): Promise<void> {
    for await (const { bytes, header, hash } of this.#options.carried?.news(this.#tip!) ?? []) {
      await this.#add(bytes, header, hash, 'copied batch')
      this.#options.time.atLeast(header.time)
    }
  }

  /** Appends seals of a new epoch until one is live. Then the fate of each unsure batch before is known. */
  async #take(carried: CarriedPartition): Promise<void> {
    for (let tries = 0; ; tries++) {
      await this.#readOn()
      if (tries > 0 && carried.endsWith(this.#nonce)) break
      if (this.#tip!.epoch > this.#epochMax) throw onlyFollowed()
      if (tries === takingMax) throw unsure(this.#files.lineage.partition)
      this.#epoch = this.#tip!.epoch + 1
      this.#nonce = randomBytes(8)
      carried.begin(this.#nonce)
      try {
        await this.#writeSeal()
        break
      } catch (error) {
        if (!isUnsure(error)) throw error
        await carried.check()
      }
    }
    carried.took(this.#nonce)
    this.#epochMax = Number.POSITIVE_INFINITY
  }

  async #recover(): Promise<void> {
    const { carried } = this.#options
    // A copy that has followed until now is as it is known.
    if (this.#tip === undefined) {
      await this.#written?.close().catch(() => undefined) // The file is given up either way.
      this.#options.own()
      const findings = await inspect(this.#files)
      // A copy gets back what it has lost.
      if (carried === undefined) this.#checkNoLoss(findings)
      this.#isTaking = carried !== undefined && this.#isOwner
      await this.open(findings)
    }
    if (this.#isTaking) await this.#take(carried!)
    else await this.#readOn()
    this.#isTaking = false
  }

  /** A recovery may find more than what was durable before, by this process, and never less. */
  #checkNoLoss({ tip, segments }: Findings): void {
    const { path } = segments.at(-1)!
    const { offset } = this.#durable!
    if (tip.epoch > this.#epoch) throw overtaken(path, tip.position, tip.epoch, this.#epoch)
    const why = `it ends at offset ${tip.offset}, but records before offset ${offset} were durable`
    if (tip.offset < offset) throw lost(path, why)
  }
}
