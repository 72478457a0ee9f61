import { decodeRecord, type EventRecord, encodeEvent, encodeRequest, encodeResult } from '../log/record.ts'
import type { Channels } from './channels.ts'
import { type DueMessage, type EventOrder, positionNumber, type RecordedEvent } from './event-order.ts'

/**
 * The event order of a generation that is not live. Its messages are in no log; the log holds those of the
 * live generation.
 *
 * If the live generation emitted an event with the same id and cause, the event is applied where that one
 * stands in the target's log: the live generation has already applied the cause, so its event is known. Any
 * other message is applied right after the last record of its target whose log time is not later than that of
 * its cause; several such messages in the order of time, partition and offset of their causes. So the order
 * is a function of the log alone, however closely one generation follows the other.
 */
export class DerivedEventOrder implements EventOrder {
  readonly #generation: number
  readonly #channels: Channels
  /**
   * By target: the causes of the live generation's events that the target has still to pass, by the ids of
   * the events.
   */
  readonly #recorded: readonly Map<string, number>[]
  /** By target: events that wait for the event of the same id in its log, by their ids. */
  readonly #waiting: readonly Map<string, EventRecord>[]
  /** The other messages, in order; those before `#taken` have been applied. */
  #due: DueMessage[] = []
  #taken = 0
  /** The message that is being applied. */
  #applying: DueMessage | undefined

  /** @param channels the order of the same generation for the times when it is live */
  constructor(generation: number, partitions: number, channels: Channels) {
    this.#generation = generation
    this.#channels = channels
    this.#recorded = Array.from({ length: partitions }, () => new Map())
    this.#waiting = Array.from({ length: partitions }, () => new Map())
  }

  get isEmpty(): boolean {
    return this.#taken === this.#due.length && this.#waiting.every(({ size }) => size === 0)
  }

  /** Takes note of an event that the live generation emitted and that the target has still to pass. */
  noteRecorded(target: number, { id, causePartition, causeOffset }: RecordedEvent): void {
    this.#recorded[target]!.set(id, positionNumber(causePartition, causeOffset))
  }

  /** Nothing is recorded any more once the generation is live. */
  forgetRecorded(): void {
    for (const ids of this.#recorded) ids.clear()
  }

  send(target: number, event: Omit<EventRecord, 'channelNumber'>, time: number): EventRecord {
    const { id, causePartition, causeOffset } = event
    const sent = { ...event, channelNumber: 0 }
    // A cause that is applied between two records stands at no position. The record that comes next may be
    // known already or not, and may emit the same event; so it must not count, unless the cause is a request
    // that moved and has a position.
    const isBetween = this.#applying !== undefined && this.#applying.root === undefined
    const isRecorded =
      !isBetween && this.#recorded[target]!.get(id) === positionNumber(causePartition, causeOffset)
    if (isRecorded) this.#waiting[target]!.set(id, sent)
    else this.#add(dueOf(target, sent, time))
    return sent
  }

  move(message: DueMessage): void {
    this.#add(message)
  }

  arrive(target: number, recorded: EventRecord, isCauseDerived: boolean): EventRecord | 'early' | undefined {
    // From a time when this generation was live.
    if (recorded.generation === this.#generation) {
      return this.#channels.arrive(target, recorded, isCauseDerived)
    }
    return isCauseDerived ? this.#waiting[target]!.get(recorded.id) : 'early'
  }

  passed(target: number, recorded: EventRecord, applied: EventRecord | undefined): void {
    if (recorded.generation === this.#generation) {
      this.#channels.passed(target, recorded, applied)
      return
    }
    this.#recorded[target]!.delete(recorded.id)
    this.#waiting[target]!.delete(recorded.id)
  }

  applyDue(before: number, now: () => number, apply: (message: DueMessage) => void): number {
    for (let count = 0; ; count++) {
      if (before === Number.POSITIVE_INFINITY) this.#releaseWaiting(now())
      const message = this.#due[this.#taken]
      if (message === undefined || message.time >= before) return count
      this.#applying = message
      try {
        apply(message)
      } finally {
        this.#applying = undefined
      }
      this.#taken++
      this.#compact()
    }
  }

  *underWay(): Iterable<EventRecord> {
    for (const events of this.#waiting) yield* events.values()
    for (const { record } of this.#due.slice(this.#taken)) if (record.kind === 'event') yield record
  }

  /** For a checkpoint. The recorded events are found in the log again. */
  save(): SavedDerivedOrder {
    return {
      waiting: this.#waiting.flatMap((events, target) =>
        [...events.values()].map((event) => [target, encodeEvent(event).toString('base64')] as const),
      ),
      due: this.#due.slice(this.#taken).map(({ record, ...rest }) => ({ ...rest, record: encoded(record) })),
    }
  }

  restore({ waiting, due }: SavedDerivedOrder): void {
    for (const [target, text] of waiting) {
      const event = decoded(text) as EventRecord
      this.#waiting[target]!.set(event.id, event)
    }
    this.#due = due.map(({ record, root, ...rest }) => ({ ...rest, root, record: decoded(record) }))
    this.#taken = 0
  }

  /** Puts a message in its order, behind those that are equal in it. */
  #add(message: DueMessage): void {
    // Behind the message that is being applied: what follows from it comes after it.
    const first = this.#taken + (this.#applying === undefined ? 0 : 1)
    let at = this.#due.length
    while (at > first && isBefore(message, this.#due[at - 1]!)) at--
    this.#due.splice(at, 0, message)
  }

  /** At the end of everything, no event waits for a place in the log that has not come. */
  #releaseWaiting(time: number): void {
    for (const [target, events] of this.#waiting.entries()) {
      for (const event of [...events.values()].sort((a, b) => (a.id < b.id ? -1 : 1))) {
        this.#add(dueOf(target, event, time))
      }
      events.clear()
    }
  }

  /** Drops the messages that were applied, now and then. */
  #compact(): void {
    if (this.#taken <= 1_024 || this.#taken * 2 <= this.#due.length) return
    this.#due = this.#due.slice(this.#taken)
    this.#taken = 0
  }
}

export interface SavedDerivedOrder {
  readonly waiting: readonly (readonly [target: number, record: string])[]
  readonly due: readonly (Omit<DueMessage, 'record' | 'root'> & {
    readonly record: string
    readonly root?: DueMessage['root']
  })[]
}

function dueOf(target: number, record: EventRecord, time: number): DueMessage {
  const { causePartition: partition, causeOffset: offset } = record
  return { time, target, partition, offset, record, root: undefined }
}

function isBefore(a: DueMessage, b: DueMessage): boolean {
  if (a.time !== b.time) return a.time < b.time
  if (a.partition !== b.partition) return a.partition < b.partition
  return a.offset < b.offset
}

function encoded(record: DueMessage['record']): string {
  const bytes =
    record.kind === 'event'
      ? encodeEvent(record)
      : record.kind === 'result'
        ? encodeResult(record)
        : encodeRequest(record.identity, record.type, record.input, record.output, record.version)
  return bytes.toString('base64')
}

function decoded(text: string): DueMessage['record'] {
  return decodeRecord(Buffer.from(text, 'base64')) as DueMessage['record']
}
