import { assert } from '../assert.ts'
import {
  decodeRecord,
  type EventHead,
  type EventRecord,
  encodeEvent,
  encodeRequest,
  encodeResult,
} from '../log/record.ts'
import type { Codec } from '../state/cells.ts'
import { canonicalJson } from '../state/digest.ts'
import type { State } from '../state/state.ts'
import type { Channels } from './channels.ts'
import type { Completion } from './completion.ts'
import { type DueMessage, type EventOrder, positionNumber, type RecordedEvent } from './event-order.ts'
import { PassedEvents } from './passed-events.ts'
import {
  heldBytesMax,
  type SavedQueue,
  type SpilledQueue,
  SpilledQueues,
  savedQueue,
} from './spilled-queues.ts'

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
 * results that move to another partition have channels of their own, since they have no places. Very many
 * messages may wait; see `SpilledQueues`.
 */
export class DerivedEventOrder implements EventOrder {
  readonly #generation: number
  readonly #partitions: number
  readonly #channels: Channels
  /** By target: the places of the live generation's events that it has still to pass; see `placeOf`. */
  readonly #recorded: readonly Set<string>[]
  /** By target: the events that wait for their places, by these. */
  readonly #placed: readonly Map<string, PlacedEvent>[]
  readonly passedEvents: PassedEvents
  readonly #messages: SpilledQueues<WaitingMessage>
  readonly #queues = new Map<number, MessageQueue>()
  /** Those whose first message waits for no place. */
  readonly #free = new Set<MessageQueue>()
  /** The message that is being applied between two records. */
  #applying: DueMessage | undefined

  static readonly collections = ['placing']

  /**
   * @param channels the order of the same generation for the times when it is live
   * @param completion gets the events in memory
   * @param bytesMax see `SpilledQueues`
   */
  constructor(
    state: State,
    generation: number,
    partitions: number,
    channels: Channels,
    completion: Pick<Completion, 'emitted' | 'dropped'>,
    bytesMax: number = heldBytesMax,
  ) {
    this.#messages = new SpilledQueues(
      state.collection('placing', waitingCodec, false),
      2 * partitions,
      bytesMax,
      {
        bytesOf: ({ message: { record } }) => sizeOf(record),
        held({ message: { record } }) {
          if (record.kind === 'event') completion.emitted(record.rootPartition, record.rootOffset)
        },
        dropped({ message: { record } }) {
          if (record.kind === 'event') completion.dropped(record.rootPartition, record.rootOffset)
        },
      },
    )
    this.#generation = generation
    this.#partitions = partitions
    this.#channels = channels
    this.#recorded = Array.from({ length: partitions }, () => new Set())
    this.#placed = Array.from({ length: partitions }, () => new Map())
    this.passedEvents = new PassedEvents(partitions)
  }

  get isEmpty(): boolean {
    return this.#messages.isEmpty
  }

  /** How many checkpoints' worth of new messages are in memory. */
  get checkpointsDue(): number {
    return this.#messages.checkpointsDue
  }

  /** The bytes of the messages in memory. */
  get heldBytes(): number {
    return this.#messages.heldBytes
  }

  /** Takes note of an event that the live generation emitted and that the target has still to pass. */
  noteRecorded(target: number, event: RecordedEvent): void {
    this.#recorded[target]!.add(placeOf(event))
  }

  /** As `noteRecorded`, of an event in the log ahead. */
  noteAhead(target: number, event: EventHead): void {
    if (!this.passedEvents.has(target, event)) this.noteRecorded(target, event)
  }

  /** Takes over what was noted before other code took over. */
  takeRecorded(before: DerivedEventOrder): void {
    for (const [target, places] of before.#recorded.entries())
      for (const place of places) this.#recorded[target]!.add(place)
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
    if (!isCauseDerived) return 'early'
    const placed = this.#placed[target]!.get(placeOf(recorded))
    if (placed === undefined) return undefined
    const { queue, number } = placed
    const isFirst = number === queue.messages.applied
    const { message } = isFirst ? this.#first(queue) : this.#messages.peek(queue.messages, number)
    return message.record as EventRecord
  }

  applyAhead(
    target: number,
    recorded: EventRecord,
    time: number,
    apply: (message: DueMessage) => void,
  ): void {
    if (recorded.generation === this.#generation) return
    const placed = this.#placed[target]!.get(placeOf(recorded))
    if (placed === undefined) return
    const { queue, number } = placed
    while (queue.messages.applied < number) this.#apply(queue, time, apply)
  }

  passed(target: number, recorded: EventRecord, applied: EventRecord | undefined): void {
    if (recorded.generation === this.#generation) {
      this.#channels.passed(target, recorded, applied)
      return
    }
    this.#recorded[target]!.delete(placeOf(recorded))
    this.passedEvents.add(target, recorded)
    if (applied !== undefined) this.#shift(this.#placed[target]!.get(placeOf(applied))!.queue)
  }

  applyDue(
    before: number,
    timeOf: (partition: number) => number,
    apply: (message: DueMessage) => void,
    max: number,
  ): number {
    for (let count = 0; ; ) {
      // At the end of everything, no event waits for a place in the log that has not come.
      if (before === Number.POSITIVE_INFINITY && !this.isEmpty) this.#forgetPlaces()
      const { time, queues } = this.#nextRound(before, timeOf)
      if (queues.length === 0 || count >= max) return count
      for (const queue of queues) this.#apply(queue, time, apply)
      count += queues.length
    }
  }

  isDue(before: number, timeOf: (partition: number) => number): boolean {
    if (before === Number.POSITIVE_INFINITY) return !this.isEmpty
    return this.#free.size > 0 && this.#nextRound(before, timeOf).queues.length > 0
  }

  /** Puts the messages that wait into the state; call it before the state is saved. */
  flush(): void {
    this.#messages.flush()
  }

  /** For a checkpoint. The recorded events are found in the log again. */
  save(): SavedDerivedOrder {
    return [...this.#queues.values()].filter(isBusy).map(({ target, isOfMoved, placedFrom, messages }) => ({
      ...savedQueue(messages),
      ...{ target, isOfMoved, placedFrom },
    }))
  }

  restore(saved: SavedDerivedOrder): void {
    for (const { isOfMoved, placedFrom, ...span } of saved) {
      const queue = this.#queue(span.source, span.target, isOfMoved)
      this.#messages.restore({ ...span, target: queue.messages.target })
      queue.placedFrom = placedFrom
      let number = span.applied
      for (const waiting of this.#messages.waiting(queue.messages)) this.#place(queue, number++, waiting)
      this.#look(queue)
    }
  }

  /** All messages that wait, in a form that does not depend on checkpoints. */
  *texts(): Iterable<string> {
    for (const queue of [...this.#queues.values()].filter(isBusy).sort(byName)) {
      const { source, target, isOfMoved, messages } = queue
      yield canonicalJson({ source, target, isOfMoved })
      let number = messages.applied
      for (const waiting of this.#messages.waiting(messages)) {
        const isPlaced = this.#isPlaced(queue, number++, waiting)
        yield canonicalJson({ ...waiting.message, isPlaced, record: encoded(waiting.message.record) })
      }
    }
  }

  #queue(source: number, target: number, isOfMoved: boolean): MessageQueue {
    // The queues of what moved stand beside the others.
    const lane = isOfMoved ? this.#partitions + target : target
    const at = source * this.#partitions * 2 + lane
    let queue = this.#queues.get(at)
    if (queue === undefined) {
      const messages = this.#messages.queue(source, lane)
      queue = { source, target, isOfMoved, messages, placedFrom: 0 }
      this.#queues.set(at, queue)
    }
    return queue
  }

  #add(queue: MessageQueue, waiting: WaitingMessage): void {
    const { messages } = queue
    this.#place(queue, messages.next, waiting)
    this.#messages.push(messages, waiting)
    if (messages.next - messages.applied === 1) this.#look(queue)
  }

  #place(queue: MessageQueue, number: number, waiting: WaitingMessage): void {
    const { record } = waiting.message
    if (record.kind !== 'event' || !this.#isPlaced(queue, number, waiting)) return
    const placed = this.#placed[queue.target]!
    const place = placeOf(record)
    assert(!placed.has(place), 'two events have two ids', record.type)
    placed.set(place, { queue, number })
    // No other event looks for this place.
    this.#recorded[queue.target]!.delete(place)
  }

  #isPlaced({ placedFrom }: MessageQueue, number: number, { isPlaced }: WaitingMessage): boolean {
    return isPlaced && number >= placedFrom
  }

  #first({ messages }: MessageQueue): WaitingMessage {
    return this.#messages.at(messages, messages.applied)!
  }

  /** Looks whether the first message of a queue waits for a place. */
  #look(queue: MessageQueue): void {
    const { messages } = queue
    if (isBusy(queue) && !this.#isPlaced(queue, messages.applied, this.#first(queue))) this.#free.add(queue)
    else this.#free.delete(queue)
  }

  /** The queues whose first messages are applied next, in order, and the time at which they are. */
  #nextRound(
    before: number,
    timeOf: (partition: number) => number,
  ): { time: number; queues: readonly MessageQueue[] } {
    let time = before
    let queues: MessageQueue[] = []
    for (const queue of this.#free) {
      const at = Math.max(this.#first(queue).message.time, timeOf(queue.target))
      if (at >= before || at > time) continue
      if (at < time) queues = []
      time = at
      queues.push(queue)
    }
    return { time, queues: queues.length > 1 ? queues.sort(this.#byTargetAndCause) : queues }
  }

  readonly #byTargetAndCause = (a: MessageQueue, b: MessageQueue): number => {
    const [x, y] = [this.#first(a).message, this.#first(b).message]
    return a.target - b.target || x.partition - y.partition || x.offset - y.offset || byName(a, b)
  }

  #apply(queue: MessageQueue, time: number, apply: (message: DueMessage) => void): void {
    const { message } = this.#first(queue)
    this.#applying = message
    try {
      apply({ ...message, time })
    } finally {
      this.#applying = undefined
    }
    this.#shift(queue)
  }

  #shift(queue: MessageQueue): void {
    const { isPlaced, message } = this.#messages.shift(queue.messages)!
    const { record } = message
    if (record.kind === 'event' && isPlaced) this.#placed[queue.target]!.delete(placeOf(record))
    this.#look(queue)
  }

  #forgetPlaces(): void {
    for (const events of this.#placed) events.clear()
    for (const queue of this.#queues.values()) {
      queue.placedFrom = queue.messages.next
      this.#look(queue)
    }
  }
}

/** The messages from one partition to another, in the order in which they were emitted. */
interface MessageQueue {
  readonly source: number
  readonly target: number
  readonly isOfMoved: boolean
  readonly messages: SpilledQueue<WaitingMessage>
  /** No message before this number waits for a place any more. */
  placedFrom: number
}

interface WaitingMessage {
  readonly message: DueMessage
  /** Whether it waits for its place in the log of the target. */
  readonly isPlaced: boolean
}

/** An event that waits for its place. */
interface PlacedEvent {
  readonly queue: MessageQueue
  readonly number: number
}

export type SavedDerivedOrder = readonly (SavedQueue & Pick<MessageQueue, 'isOfMoved' | 'placedFrom'>)[]

/**
 * Names the place of an event. Two live generations may emit the same event at different causes, for example
 * where a timer goes off later in the code that took over; each has its place then.
 */
function placeOf({ id, causePartition, causeOffset }: RecordedEvent): string {
  return `${id}${positionNumber(causePartition, causeOffset)}`
}

function isBusy({ messages }: MessageQueue): boolean {
  return messages.applied < messages.next
}

function byName(a: MessageQueue, b: MessageQueue): number {
  return a.source - b.source || a.target - b.target || Number(a.isOfMoved) - Number(b.isOfMoved)
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

const waitingCodec: Codec<WaitingMessage> = {
  encode: ({ message: { record, ...rest }, isPlaced }) =>
    JSON.stringify({ ...rest, isPlaced, record: encoded(record) }),
  decode(text) {
    const { record, isPlaced, ...rest } = JSON.parse(text)
    return { message: { ...rest, record: decoded(record) }, isPlaced }
  },
}

/** About how many bytes a record takes. */
function sizeOf(record: DueMessage['record']): number {
  const { length } =
    record.kind === 'event' ? record.data : record.kind === 'request' ? record.input : record.text
  return 256 + length
}
