import {
  decodeRecord,
  type EventRecord,
  encodeEvent,
  encodeRequest,
  encodeResult,
  type RequestRecord,
  type ResultRecord,
} from '../log/record.ts'

/** A message that is applied between two records of a partition. */
export interface Due {
  /** The log time of its cause, which is its own too. */
  readonly time: number
  readonly target: number
  /** Where its cause stands. */
  readonly partition: number
  readonly offset: number
  readonly record: EventRecord | RequestRecord | ResultRecord
  /** Where the request itself stands, if it is one that moved. */
  readonly root: { readonly partition: number; readonly offset: number } | undefined
}

/**
 * Where the messages of a generation that is not live are applied. They are in no log: those of the live generation are.
 *
 * An event has the place that the live generation's event of the same id and the same cause has in the target's log, if that
 * emitted one: as it has applied the cause too, that is known. Any other message comes right after the last record of the target whose log time is not later than its cause's; and several such
 * in the order of time, partition and offset of their causes. So the places are a function of the log alone, however fast
 * the two generations follow each other.
 */
export class Placing {
  /** By target: the live generation's events that stand, or will stand, behind the position: their causes by their ids. */
  readonly #recorded: readonly Map<string, number>[]
  /** By target: events that wait for such a place, by their ids. */
  readonly #waiting: readonly Map<string, EventRecord>[]
  #due: Due[] = []
  #taken = 0

  constructor(partitions: number) {
    this.#recorded = Array.from({ length: partitions }, () => new Map())
    this.#waiting = Array.from({ length: partitions }, () => new Map())
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#taken === this.#due.length && this.#waiting.every(({ size }) => size === 0)
  }

  /** Notes that the live generation emitted an event which the target has still to pass. */
  noteRecorded(target: number, { id, causePartition, causeOffset }: RecordedEvent): void {
    this.#recorded[target]!.set(id, placeNumber(causePartition, causeOffset))
  }

  /**
   * Takes an event on its way.
   * @param isBetween its cause is applied between two records, so that no record has its place: the one that comes next may
   *   be known by now or not, and may emit the same event
   */
  send(target: number, event: EventRecord, time: number, isBetween: boolean): void {
    const { id, causePartition: partition, causeOffset: offset } = event
    const isRecorded = !isBetween && this.#recorded[target]!.get(id) === placeNumber(partition, offset)
    if (isRecorded) this.#waiting[target]!.set(id, event)
    else this.add({ time, target, partition, offset, record: event, root: undefined })
  }

  /** Takes a message that no place is recorded for. */
  add(due: Due): void {
    let at = this.#due.length
    while (at > this.#taken && isBefore(due, this.#due[at - 1]!)) at--
    this.#due.splice(at, 0, due)
  }

  /** The event that is applied where the target's log holds the live generation's event of this id. */
  at(target: number, id: string): EventRecord | undefined {
    return this.#waiting[target]!.get(id)
  }

  /** The target has passed that place. */
  pass(target: number, id: string): void {
    this.#recorded[target]!.delete(id)
    this.#waiting[target]!.delete(id)
  }

  /** Where everything comes to an end, no event waits any longer for a place that did not come. */
  releaseWaiting(time: number): void {
    for (const [target, events] of this.#waiting.entries()) {
      for (const event of [...events.values()].sort((a, b) => (a.id < b.id ? -1 : 1))) {
        const { causePartition: partition, causeOffset: offset } = event
        this.add({ time, target, partition, offset, record: event, root: undefined })
      }
      events.clear()
    }
  }

  /** Takes out the first message whose time is before this one. */
  take(before: number): Due | undefined {
    const due = this.#due[this.#taken]
    if (due === undefined || due.time >= before) return undefined
    this.#taken++
    if (this.#taken > 1_024 && this.#taken * 2 > this.#due.length) {
      this.#due = this.#due.slice(this.#taken)
      this.#taken = 0
    }
    return due
  }

  /** Takes the message that was taken out last, which could not be applied, as if it had not been. */
  putBack(due: Due): void {
    this.#due.splice(this.#taken, 0, due)
  }

  /** Everything that waits, of one generation that becomes live: there is nothing recorded for it any more. */
  forgetRecorded(): void {
    for (const ids of this.#recorded) ids.clear()
  }

  /** For a checkpoint. What is recorded is found again in the log. */
  save(): SavedPlacing {
    return {
      waiting: this.#waiting.flatMap((events, target) =>
        [...events.values()].map((event) => [target, encodeEvent(event).toString('base64')] as const),
      ),
      due: this.#due.slice(this.#taken).map(({ record, ...rest }) => ({ ...rest, record: encoded(record) })),
    }
  }

  restore({ waiting, due }: SavedPlacing): void {
    for (const [target, text] of waiting) {
      const event = decoded(text) as EventRecord
      this.#waiting[target]!.set(event.id, event)
    }
    this.#due = due.map(({ record, root, ...rest }) => ({ ...rest, root, record: decoded(record) }))
    this.#taken = 0
  }

  /** All events that wait. */
  *events(): Iterable<EventRecord> {
    for (const events of this.#waiting) yield* events.values()
    for (const { record } of this.#due.slice(this.#taken)) if (record.kind === 'event') yield record
  }
}

/** What is noted of an event that stands in the log. */
export type RecordedEvent = Pick<EventRecord, 'id' | 'causePartition' | 'causeOffset'>

/** A place as one number: there are 1,024 partitions at most, and no partition has 2^43 records. */
function placeNumber(partition: number, offset: number): number {
  return offset * 1_024 + partition
}

export interface SavedPlacing {
  readonly waiting: readonly (readonly [target: number, record: string])[]
  readonly due: readonly (Omit<Due, 'record' | 'root'> & {
    readonly record: string
    readonly root?: Due['root']
  })[]
}

/** Whether one comes before another, which was there first. */
function isBefore(a: Due, b: Due): boolean {
  if (a.time !== b.time) return a.time < b.time
  if (a.partition !== b.partition) return a.partition < b.partition
  return a.offset < b.offset
}

function encoded(record: Due['record']): string {
  const bytes =
    record.kind === 'event'
      ? encodeEvent(record)
      : record.kind === 'result'
        ? encodeResult(record)
        : encodeRequest(record.identity, record.type, record.input, record.output, record.version)
  return bytes.toString('base64')
}

function decoded(text: string): Due['record'] {
  return decodeRecord(Buffer.from(text, 'base64')) as Due['record']
}
