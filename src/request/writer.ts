import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { type EventRecord, encodeEvent, type LogRecord } from '../log/record.ts'

/** A record on its way to the log. */
export interface OutgoingRecord {
  readonly record: LogRecord
  readonly bytes: Buffer
}

/** The parts of the engine that a partition writer calls. */
interface WriterHost {
  /** Applies records that have just become durable. If it throws, the engine stops. */
  appended(partition: number, offset: number, time: number, drafts: readonly OutgoingRecord[]): void
  /** The append of these records failed: whether they are in the log is unknown. */
  uncertain(drafts: readonly OutgoingRecord[], error: HenceError): void
  /** Reads and applies the log's records after the partition's position. */
  catchUp(partition: number): Promise<void>
  /** Events and corrections that the partition's log may lack, in order. */
  waiting(partition: number): OutgoingRecord[]
  /** Stops the engine: the state or the log needs an operator. */
  halt(error: unknown): void
  /** Resolves when the state has room for more changes; undefined if it has now. */
  room(): Promise<void> | undefined
}

// Bounds of one append: large enough to use the disk well, small enough to apply in milliseconds.
const recordsPerAppendMax = 4_096
const bytesPerAppendMax = 1024 * 1024
const retryMsMin = 20
const retryMsMax = 5_000

/**
 * Appends the records of one partition to the log in order (group commit: while one batch is being fsynced, the
 * next gathers). While one batch is applied, the next is already being written.
 */
export class PartitionWriter {
  readonly #partition: number
  readonly #log: Log
  readonly #host: WriterHost
  #inbox: OutgoingRecord[] = []
  /** Whether the pump runs, or the partition catches up after a failed write. */
  #busy = false
  #idle: (() => void)[] = []
  #closed = false
  #isFinishing = false
  #wake: (() => void) | undefined

  constructor(partition: number, log: Log, host: WriterHost) {
    this.#partition = partition
    this.#log = log
    this.#host = host
  }

  /** Queues a record; records that arrive in one turn of the event loop go into one batch. */
  write(draft: OutgoingRecord): void {
    this.#inbox.push(draft)
    if (this.#busy) return
    this.#busy = true
    queueMicrotask(() => void this.#pump())
  }

  writeEvent(record: EventRecord): void {
    this.write({ record, bytes: encodeEvent(record) })
  }

  /** Whether a record is being written or applied. */
  get busy(): boolean {
    return this.#busy
  }

  /** Resolves when the queue is empty. */
  drained(): Promise<void> {
    if (!this.#busy) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** Writes what is queued, without retries. */
  finish(): void {
    this.#isFinishing = true
    this.#wake?.()
  }

  /** Writes nothing more. */
  stop(): void {
    this.#closed = true
    this.#wake?.()
  }

  async #pump(): Promise<void> {
    try {
      let next = this.#append()
      while (next) {
        const { drafts, appended } = next
        next = undefined
        try {
          const { offset, time } = await appended
          const room = this.#host.room()
          if (room) await room
          next = this.#append()
          this.#host.appended(this.#partition, offset, time, drafts)
        } catch (error) {
          if (!(error instanceof HenceError) || error.advice !== 'retry') throw error
          this.#host.uncertain(drafts, error)
          // If an append fails while the engine closes, the next engine writes its events.
          if (this.#isFinishing) throw error
          await this.#recover()
          next = this.#append()
        }
        next ??= this.#append()
      }
    } catch (error) {
      this.#closed = true
      this.#host.halt(error)
    } finally {
      this.#busy = false
      for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  #append() {
    if (this.#closed || this.#inbox.length === 0) return undefined
    const drafts = this.#take()
    const appended = this.#log.append(
      this.#partition,
      drafts.map(({ bytes }) => bytes),
    )
    // The promise is awaited later: an earlier rejection must not count as unhandled.
    appended.catch(() => {})
    return { drafts, appended }
  }

  #take(): OutgoingRecord[] {
    let count = 0
    let bytes = 0
    while (count < this.#inbox.length && count < recordsPerAppendMax && bytes < bytesPerAppendMax) {
      bytes += this.#inbox[count++]!.bytes.length
    }
    if (count === this.#inbox.length) {
      const all = this.#inbox
      this.#inbox = []
      return all
    }
    return this.#inbox.splice(0, count)
  }

  /**
   * After a failed write: reads what the log holds, and puts the events and corrections that it lacks first, since
   * later ones of the same channel may already be queued.
   */
  async #recover(): Promise<void> {
    for (let failed = 1; !this.#closed; failed++) {
      try {
        await this.#host.catchUp(this.#partition)
        const others = this.#inbox.filter(({ record: { kind } }) => kind !== 'event' && kind !== 'correction')
        this.#inbox = [...this.#host.waiting(this.#partition), ...others]
        return
      } catch (error) {
        if (!(error instanceof HenceError) || error.advice !== 'retry' || this.#isFinishing) throw error
        await this.#pause(backoffMs(failed))
      }
    }
  }

  /** Waits before the next attempt; `stop` cuts it short. */
  #pause(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#wake = undefined
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(done, waitMs)
      this.#wake = done
    })
  }
}

/** The pause after this many failures in a row, in milliseconds. */
function backoffMs(failed: number): number {
  return Math.min(retryMsMin * 2 ** Math.min(failed - 1, 16), retryMsMax)
}
