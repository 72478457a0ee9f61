import { type Clock, elapsed, pause } from '../clock.ts'
import { HenceError, retryError, unended } from '../failure.ts'
import type { Log } from '../log/log.ts'
import type { LogRecord, SentEvent } from '../log/record.ts'
import { OutgoingEvents } from './outgoing-events.ts'

/** A record on its way to the log. */
export interface OutgoingRecord {
  readonly record: LogRecord
  readonly bytes: Buffer
  /** Called when it is applied, or its append has failed. */
  readonly done?: () => void
}

export interface Append {
  readonly records: readonly OutgoingRecord[]
  /** Resolves when they are durable: the offset of the first, and their log time. */
  readonly durable: ReturnType<Log['append']>
}

// Bounds of one append: large enough to use the disk well, small enough to apply in milliseconds. Events get
// half of it, so that many of them do not hold requests up.
const recordsPerAppendMax = 4_096
const bytesPerAppendMax = 1024 * 1024
const retryMsMin = 20
const retryMsMax = 5_000
/** After so many failures in a row nobody waits any more: about a tenth of a second. */
const patience = 3

/** The queue before a partition: records gather while the batch before is fsynced (group commit). */
export class PartitionWriter {
  readonly partition: number
  readonly events: OutgoingEvents
  readonly #log: Log
  readonly #clock: Clock
  readonly #held: (writer: PartitionWriter, why: HenceError | undefined) => void
  #queue: OutgoingRecord[] = []
  /** From `begin` until `rest`. */
  #isBusy = false
  #idle: (() => void)[] = []
  #isFinishing = false
  /** How many appends have failed in a row. */
  #failures = 0
  /** Why nothing can be written, from some failures in a row until an append succeeds. */
  #heldUp: HenceError | undefined
  #isStopped = false
  /** Since when the oldest record that is not written has waited, at most, by the monotonic clock. */
  #since: number | undefined
  /** When the last append was begun: what was queued later has waited since then at most. */
  #takenAt = 0
  readonly #eventBytesMax: number
  /** Ends the pause before the next attempt. */
  readonly #hurry = new AbortController()

  /**
   * @param held called when writing is held up, and without a reason when it goes on
   * @param eventAt returns an event for the partition, see `OutgoingEvents`
   * @param eventBytesMax of one append
   */
  constructor(
    partition: number,
    log: Log,
    clock: Clock,
    held: (writer: PartitionWriter, why: HenceError | undefined) => void,
    eventAt: (source: number, number: number) => SentEvent | undefined,
    eventBytesMax: number,
  ) {
    this.#held = held
    this.events = new OutgoingEvents(eventAt)
    this.#eventBytesMax = Math.min(eventBytesMax, bytesPerAppendMax / 2)
    this.partition = partition
    this.#log = log
    this.#clock = clock
  }

  add(outgoing: OutgoingRecord): void {
    this.#queue.push(outgoing)
  }

  /** Returns true if something is queued and nobody appends yet: the caller must then do so, until `rest`. */
  begin(): boolean {
    if (this.#isBusy || this.isEmpty) return false
    this.#isBusy = true
    this.#since = elapsed(this.#clock)
    return true
  }

  /** Begins to append a batch of what is queued; undefined when nothing is, or after `stop`. */
  append(): Append | undefined {
    const records = this.#isStopped ? [] : this.#take()
    if (records.length === 0) return undefined
    this.#takenAt = elapsed(this.#clock)
    const durable = this.#log.append(
      this.partition,
      records.map(({ bytes }) => bytes),
    )
    // The promise is awaited later: an earlier rejection must not count as unhandled.
    durable.catch(() => {})
    return { records, durable }
  }

  /** The caller of `append` has nothing left to append. */
  rest(): void {
    this.#isBusy = false
    this.#since = undefined
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** Whether a record is queued, being appended or being applied. */
  get isBusy(): boolean {
    return this.#isBusy
  }

  drained(): Promise<void> {
    if (!this.#isBusy) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  succeeded(): void {
    this.#failures = 0
    this.#since = this.#takenAt
    if (this.#heldUp === undefined) return
    this.#heldUp = undefined
    this.#held(this, undefined)
  }

  /** For how long the oldest record that is not written has waited, at most, in milliseconds. */
  get waitsMs(): number {
    return this.#since === undefined ? 0 : elapsed(this.#clock) - this.#since
  }

  /** Why nothing can be written at present; undefined if it can, as far as is known. */
  get heldUp(): HenceError | undefined {
    return this.#heldUp
  }

  /** Whether nothing is queued. */
  get isEmpty(): boolean {
    return this.#queue.length === 0 && this.events.isEmpty
  }

  /** Takes the requests out of the queue: nobody should wait for a log that cannot be written. */
  takeRequests(): readonly OutgoingRecord[] {
    const requests = this.#queue.filter(({ record: { kind } }) => kind === 'request')
    this.#queue = this.#queue.filter(({ record: { kind } }) => kind !== 'request')
    return requests
  }

  #holdUp(cause: HenceError): void {
    if (this.#heldUp !== undefined) return
    this.#heldUp = heldUp(this.partition, cause)
    this.#held(this, this.#heldUp)
  }

  /** After a failed append: waits before the next, longer each time in a row. `stop` and `finish` end it. */
  async backOff(error: HenceError): Promise<void> {
    this.#failures++
    if (this.#failures === 1) return
    if (this.#failures > patience) this.#holdUp(error)
    await pause(this.#clock, backoffMs(this.#failures - 1), this.#hurry.signal)
  }

  /** Repeats an attempt until it succeeds, or `stop` is called; throws errors that a retry cannot fix. */
  async persist(attempt: () => Promise<void>): Promise<void> {
    for (let failed = 1; !this.#isStopped; failed++) {
      try {
        return await attempt()
      } catch (error) {
        if (!isRetryable(error) || this.#isFinishing) throw error
        if (failed > patience) this.#holdUp(error)
        await pause(this.#clock, backoffMs(failed), this.#hurry.signal)
      }
    }
  }

  /**
   * Puts the corrections that the log lacks first, since later ones may already be queued.
   * @param isAll whether these are all; otherwise those that are queued come after them
   */
  requeue(missing: readonly OutgoingRecord[], isAll: boolean): void {
    const others = isAll ? this.#queue.filter(({ record }) => record.kind !== 'correction') : this.#queue
    this.#queue = [...missing, ...others]
  }

  /** From now on, attempts are not repeated. */
  finish(): void {
    this.#isFinishing = true
    this.#hurry.abort()
  }

  get isFinishing(): boolean {
    return this.#isFinishing
  }

  /** From now on, nothing is appended. */
  stop(): void {
    this.#isStopped = true
    this.#hurry.abort()
  }

  #take(): OutgoingRecord[] {
    const events = this.events.take(recordsPerAppendMax / 2, this.#eventBytesMax)
    const countMax = recordsPerAppendMax - events.length
    let bytes = events.reduce((sum, event) => sum + event.bytes.length, 0)
    let count = 0
    while (count < this.#queue.length && count < countMax && bytes < bytesPerAppendMax)
      bytes += this.#queue[count++]!.bytes.length
    const queued = this.#queue.splice(0, count)
    return events.length === 0 ? queued : [...events, ...queued]
  }
}

const heldUp = (partition: number, cause: HenceError) =>
  retryError(
    'writes-held-up',
    `Nothing can be written to partition ${partition} of the log at present: ${firstSentence(cause.message)} Nothing of this request was written: ` +
      'send it again a little later. Is the disk full or read-only, or the database?',
    { cause },
  )

/** Without the advice, which is for the failed append itself. */
const firstSentence = (message: string): string => `${unended(message.split('. ', 1)[0]!)}.`

/** Whether writing the same again, by this process, can succeed. */
export function isRetryable(error: unknown): error is HenceError {
  return error instanceof HenceError && error.advice === 'retry' && !isFinal(error)
}

const isFinal = ({ code }: HenceError): boolean => code === 'log-taken' || code === 'engine-closed'

/** The pause after this many failures in a row, in milliseconds. */
const backoffMs = (failed: number): number => Math.min(retryMsMin * 2 ** Math.min(failed - 1, 16), retryMsMax)
