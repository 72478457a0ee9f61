import { assert } from '../assert.ts'
import { decodeRecord, type EventRecord, encodeEvent, encodeRequest, encodeResult } from '../log/record.ts'
import type { Channels } from './channels.ts'
import { type DueMessage, type EventOrder, positionNumber, type RecordedEvent } from './event-order.ts'
import { Queue } from './queue.ts'

/**
 * The event order of a generation that is not live. Its messages are in no log; the log holds those of the
 * live generation.
 *
 * Each pair of partitions has a channel, a queue in the order in which this generation emits. So a channel
 * keeps its order whatever the live generation emitted. Two rules say when its messages are applied:
 *
 * - If the live generation emitted an event with the same id and cause, the event has a place: where that one
 *   stands in the log of the target. There everything in its channel up to and including it is applied. The
 *   live generation has already applied the cause, so its event is known; and the place waits for the cause.
 * - When all records up to some log time are applied everywhere, the first messages of channels are applied,
 *   unless they wait for their places: each at the time of its cause or of the target's last record,
 *   whichever is later; the earliest first; of one time in rounds, with one message of each channel, in the
 *   order of their causes.
 *
 * So the order is a function of the log alone, however closely one generation follows the other. Requests and
 * results that move to another partition have channels of their own, since they have no places.
 */
export class DerivedEventOrder implements EventOrder {
  readonly #generation: number
  readonly #partitions: number
  readonly #channels: Channels
  /** By target: the places of the live generation's events that it has still to pass; see `placeOf`. */
  readonly #recorded: readonly Set<string>[]
  /** By target: the events that wait for their places, by id, with their channels. */
  readonly #placed: readonly Map<string, { readonly event: EventRecord; readonly queue: MessageQueue }>[]
  readonly #queues = new Map<number, MessageQueue>()
  /** Those whose first message waits for no place. */
  readonly #free = new Set<MessageQueue>()
  #waiting = 0
  /** The message that is being applied between two records. */
  #applying: DueMessage | undefined

  /** @param channels the order of the same generation for the times when it is live */
  constructor(generation: number, partitions: number, channels: Channels) {
    this.#generation = generation
    this.#partitions = partitions
    this.#channels = channels
    this.#recorded = Array.from({ length: partitions }, () => new Set())
    this.#placed = Array.from({ length: partitions }, () => new Map())
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** Takes note of an event that the live generation emitted and that the target has still to pass. */
  noteRecorded(target: number, event: RecordedEvent): void {
    this.#recorded[target]!.add(placeOf(event))
  }

  /** Nothing is recorded any more once the generation is live. */
  forgetRecorded(): void {
    for (const places of this.#recorded) places.clear()
  }

  send(source: number, target: number, event: Omit<EventRecord, 'channelNumber'>, time: number): EventRecord {
    const { causePartition, causeOffset } = event
    const sent = { ...event, channelNumber: 0 }
    // A cause that is applied between two records stands at no position. The record that comes next may be
    // known already or not, and may emit the same event; so it must not count, unless the cause is a request
    // that moved and has a position.
    const isBetween = this.#applying !== undefined && this.#applying.root === undefined
    const isPlaced = !isBetween && this.#recorded[target]!.has(placeOf(event))
    this.#add(this.#queue(source, target, false), {
      message: {
        time,
        target,
        partition: causePartition,
        offset: causeOffset,
        record: sent,
        root: undefined,
      },
      isPlaced,
    })
    return sent
  }

  move(source: number, message: DueMessage): void {
    this.#add(this.#queue(source, message.target, true), { message, isPlaced: false })
  }

  arrive(target: number, recorded: EventRecord, isCauseDerived: boolean): EventRecord | 'early' | undefined {
    // From a time when this generation was live.
    if (recorded.generation === this.#generation) {
      return this.#channels.arrive(target, recorded, isCauseDerived)
    }
    return isCauseDerived ? this.#placedAt(target, recorded)?.event : 'early'
  }

  applyAhead(
    target: number,
    recorded: EventRecord,
    time: number,
    apply: (message: DueMessage) => void,
  ): void {
    const placed = recorded.generation === this.#generation ? undefined : this.#placedAt(target, recorded)
    if (placed === undefined) return
    const { event, queue } = placed
    for (let first = queue.messages.at(0)!; first.message.record !== event; first = queue.messages.at(0)!) {
      this.#apply(queue, time, apply)
    }
  }

  passed(target: number, recorded: EventRecord, applied: EventRecord | undefined): void {
    if (recorded.generation === this.#generation) {
      this.#channels.passed(target, recorded, applied)
      return
    }
    this.#recorded[target]!.delete(placeOf(recorded))
    if (applied !== undefined) this.#shift(this.#placed[target]!.get(applied.id)!.queue)
  }

  applyDue(
    before: number,
    timeOf: (partition: number) => number,
    apply: (message: DueMessage) => void,
    max: number,
  ): number {
    for (let count = 0; ; ) {
      // At the end of everything, no event waits for a place in the log that has not come.
      if (before === Number.POSITIVE_INFINITY && this.#waiting > 0) this.#forgetPlaces()
      const { time, queues } = this.#nextRound(before, timeOf)
      if (queues.length === 0 || count >= max) return count
      for (const queue of queues) this.#apply(queue, time, apply)
      count += queues.length
    }
  }

  isDue(before: number, timeOf: (partition: number) => number): boolean {
    if (before === Number.POSITIVE_INFINITY) return this.#waiting > 0
    return this.#free.size > 0 && this.#nextRound(before, timeOf).queues.length > 0
  }

  *underWay(): Iterable<EventRecord> {
    for (const { messages } of this.#queues.values()) {
      for (const { message } of messages) if (message.record.kind === 'event') yield message.record
    }
  }

  /** For a checkpoint. The recorded events are found in the log again. */
  save(): SavedDerivedOrder {
    return [...this.#queues.values()]
      .filter(({ messages }) => messages.length > 0)
      .map(({ source, target, isOfMoved, messages }) => ({
        source,
        target,
        isOfMoved,
        messages: [...messages].map(({ message: { record, ...rest }, isPlaced }) => ({
          ...rest,
          isPlaced,
          record: encoded(record),
        })),
      }))
  }

  restore(saved: SavedDerivedOrder): void {
    for (const { source, target, isOfMoved, messages } of saved) {
      const queue = this.#queue(source, target, isOfMoved)
      for (const { record, root, isPlaced, ...rest } of messages) {
        this.#add(queue, { message: { ...rest, root, record: decoded(record) }, isPlaced })
      }
    }
  }

  #placedAt(target: number, { id, causePartition, causeOffset }: RecordedEvent) {
    const placed = this.#placed[target]!.get(id)
    if (placed === undefined) return undefined
    const { event } = placed
    return event.causePartition === causePartition && event.causeOffset === causeOffset ? placed : undefined
  }

  #queue(source: number, target: number, isOfMoved: boolean): MessageQueue {
    const at = (source * this.#partitions + target) * 2 + (isOfMoved ? 1 : 0)
    let queue = this.#queues.get(at)
    if (queue === undefined) {
      queue = { source, target, isOfMoved, messages: new Queue() }
      this.#queues.set(at, queue)
    }
    return queue
  }

  #add(queue: MessageQueue, waiting: WaitingMessage): void {
    const { message, isPlaced } = waiting
    queue.messages.push(waiting)
    this.#waiting++
    const event = message.record
    if (isPlaced && event.kind === 'event') {
      const placed = this.#placed[queue.target]!
      assert(!placed.has(event.id), 'two events have two ids', event.type)
      placed.set(event.id, { event, queue })
    }
    if (queue.messages.length === 1 && !isPlaced) this.#free.add(queue)
  }

  /** The queues whose first messages are applied next, in order, and the time at which they are. */
  #nextRound(
    before: number,
    timeOf: (partition: number) => number,
  ): { time: number; queues: readonly MessageQueue[] } {
    let time = before
    let queues: MessageQueue[] = []
    for (const queue of this.#free) {
      const at = Math.max(firstOf(queue).time, timeOf(queue.target))
      if (at >= before || at > time) continue
      if (at < time) queues = []
      time = at
      queues.push(queue)
    }
    return { time, queues: queues.length > 1 ? queues.sort(byTargetAndCause) : queues }
  }

  #apply(queue: MessageQueue, time: number, apply: (message: DueMessage) => void): void {
    const message = firstOf(queue)
    this.#applying = message
    try {
      apply({ ...message, time })
    } finally {
      this.#applying = undefined
    }
    this.#shift(queue)
  }

  #shift(queue: MessageQueue): void {
    const { message, isPlaced } = queue.messages.shift()!
    this.#waiting--
    assert(this.#waiting >= 0, 'no more messages are applied than were sent')
    if (isPlaced && message.record.kind === 'event') this.#placed[queue.target]!.delete(message.record.id)
    if (queue.messages.at(0)?.isPlaced === false) this.#free.add(queue)
    else this.#free.delete(queue)
  }

  #forgetPlaces(): void {
    for (const events of this.#placed) events.clear()
    for (const queue of this.#queues.values()) {
      for (const waiting of queue.messages) waiting.isPlaced = false
      if (queue.messages.length > 0) this.#free.add(queue)
    }
  }
}

/** The messages from one partition to another, in the order in which they were emitted. */
interface MessageQueue {
  readonly source: number
  readonly target: number
  readonly isOfMoved: boolean
  readonly messages: Queue<WaitingMessage>
}

interface WaitingMessage {
  readonly message: DueMessage
  /** Whether it waits for its place in the log of the target. */
  isPlaced: boolean
}

export type SavedDerivedOrder = readonly {
  readonly source: number
  readonly target: number
  readonly isOfMoved: boolean
  readonly messages: readonly (Omit<DueMessage, 'record' | 'root'> & {
    readonly record: string
    readonly root?: DueMessage['root']
    readonly isPlaced: boolean
  })[]
}[]

/**
 * Names the place of an event. Two live generations may emit the same event at different causes, for example
 * where a timer goes off later in the code that took over; each has its place then.
 */
function placeOf({ id, causePartition, causeOffset }: RecordedEvent): string {
  return `${id}${positionNumber(causePartition, causeOffset)}`
}

function firstOf({ messages }: MessageQueue): DueMessage {
  return messages.at(0)!.message
}

function byTargetAndCause(a: MessageQueue, b: MessageQueue): number {
  const [x, y] = [firstOf(a), firstOf(b)]
  return (
    a.target - b.target ||
    x.partition - y.partition ||
    x.offset - y.offset ||
    a.source - b.source ||
    Number(a.isOfMoved) - Number(b.isOfMoved)
  )
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
