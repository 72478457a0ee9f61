import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { type EventRecord, encodeEvent, type LogRecord } from '../log/record.ts'

/** A record on its way to the log. */
export interface OutgoingRecord {
  readonly record: LogRecord
  readonly bytes: Buffer
}

/** What the writer of a partition needs of its surroundings. */
export interface WriterHost {
  /** Applies records that have just become durable. May throw: then the engine stops. */
  appended(partition: number, offset: number, time: number, drafts: readonly OutgoingRecord[]): void
  /** The append of these was refused or cut off: whether they are in the log is not known. */
  uncertain(drafts: readonly OutgoingRecord[], error: HenceError): void
  /** Reads and applies what the log holds behind the partition's position. */
  catchUp(partition: number): Promise<void>
  /** Events and corrections that the log of the partition may lack, in their order. */
  waiting(partition: number): OutgoingRecord[]
  /** Nothing more can be applied: the state or the log needs an operator. */
  halt(error: unknown): void
  /** Resolves when the state has room again; undefined when it has. */
  room(): Promise<void> | undefined
}

// One append carries at most so much: enough to fill a disk's write, and little enough to apply in
// milliseconds.
const recordsPerAppendMax = 4_096
const bytesPerAppendMax = 1024 * 1024
const retryMsMin = 20
const retryMsMax = 5_000

/**
 * Brings the records of one partition to the log in their order, as many at a time as have gathered while
 * the batch before became durable. While one batch is applied the next is already being written.
 */
export class PartitionWriter {
  readonly #partition: number
  readonly #log: Log
  readonly #host: WriterHost
  #inbox: OutgoingRecord[] = []
  /** The pump runs, or the partition is being caught up after a failed write. */
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

  /** Takes a record; requests that arrive in one turn of the event loop go out together. */
  write(draft: OutgoingRecord): void {
    this.#inbox.push(draft)
    if (this.#busy) return
    this.#busy = true
    queueMicrotask(() => void this.#pump())
  }

  writeEvent(record: EventRecord): void {
    this.write({ record, bytes: encodeEvent(record) })
  }

  /** Whether something is being written or applied. */
  get busy(): boolean {
    return this.#busy
  }

  /** Resolves when nothing is left to write. */
  drained(): Promise<void> {
    if (!this.#busy) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** Writes what there is, but does not try again what fails. */
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
          // What cannot be written while the engine closes is left to the next one.
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
    // It is awaited later; a rejection in between is not unheard.
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
   * After a failed write: finds out what the log holds, and puts the events and corrections that it lacks before all else,
   * since later ones of the same channel may already wait.
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

/** How long to wait after so many failures in a row, in milliseconds. */
function backoffMs(failed: number): number {
  return Math.min(retryMsMin * 2 ** Math.min(failed - 1, 16), retryMsMax)
}
