import { assert } from '../assert.ts'
import { type HenceError, operatorError } from '../failure.ts'
import type { Position } from '../log/log.ts'
import { decodeRecord, type EventRecord, encodeEvent, type SentEvent } from '../log/record.ts'
import type { Codec } from '../state/cells.ts'
import type { State } from '../state/state.ts'
import type { Completion } from './completion.ts'
import type { DueMessage, EventOrder } from './event-order.ts'
import {
  heldBytesMax,
  type SavedQueue,
  type SpilledQueue,
  SpilledQueues,
  savedQueue,
} from './spilled-queues.ts'

/**
 * The event order of the live generation: one channel for each source and target partition, numbered from 0
 * without gaps. An event stays in its channel from its emission until its target has applied it. So events
 * that the log lacks after a crash can be appended again, and an event that stands in the log twice is
 * applied once. Very many may wait while a target cannot be written; see `SpilledQueues`.
 */
export class Channels implements EventOrder {
  readonly #generation: number
  readonly #partitions: number
  readonly #queues: SpilledQueues<SentEvent>

  static readonly collections = ['waiting']

  /**
   * @param completion gets the events in memory
   * @param bytesMax see `SpilledQueues`
   */
  constructor(
    state: State,
    generation: number,
    partitions: number,
    completion: Pick<Completion, 'emitted' | 'dropped'>,
    bytesMax: number = heldBytesMax,
  ) {
    this.#generation = generation
    this.#partitions = partitions
    this.#queues = new SpilledQueues(state.collection('waiting', waitingCodec, false), partitions, bytesMax, {
      bytesOf: ({ bytes }) => bytes.length,
      held: ({ record }) => completion.emitted(record.rootPartition, record.rootOffset),
      dropped: ({ record }) => completion.dropped(record.rootPartition, record.rootOffset),
    })
  }

  get isEmpty(): boolean {
    return this.#queues.isEmpty
  }

  /** The bytes of all events that wait. */
  get bytes(): number {
    return this.#queues.bytes
  }

  /** The bytes of those in memory. */
  get heldBytes(): number {
    return this.#queues.heldBytes
  }

  /** Whether some events are in the state only. */
  get hasDropped(): boolean {
    return this.#queues.hasDropped
  }

  /** How many checkpoints' worth of new events are in memory. */
  get checkpointsDue(): number {
    return this.#queues.checkpointsDue
  }

  send(source: number, target: number, event: Omit<EventRecord, 'channelNumber'>, time: number): EventRecord {
    const channel = this.#channel(source, target)
    const record = { ...event, channelNumber: channel.next }
    this.#queues.push(channel, { record, bytes: encodeEvent(record), time })
    return record
  }

  move(_: number, { partition, offset }: DueMessage, key: string): never {
    throw operatorError(
      'divergence',
      `Record ${offset} of partition ${partition} has the key ${JSON.stringify(key)}, which belongs to ` +
        'another partition: the code that computes keys has changed, or is not deterministic.',
    )
  }

  arrive(target: number, recorded: EventRecord, isCauseDerived: boolean): EventRecord | 'early' | undefined {
    if (recorded.generation !== this.#generation) throw foreign(target, recorded, this.#generation)
    const channel = this.#channel(recorded.causePartition, target)
    if (recorded.channelNumber < channel.applied) return undefined
    if (recorded.channelNumber > channel.applied) throw gap(target, recorded, channel.applied)
    const first = this.#queues.at(channel, channel.applied)
    if (first === undefined) {
      if (isCauseDerived) throw diverged(target, recorded, 'nothing')
      return 'early'
    }
    const { record: emitted, bytes } = first
    if (emitted !== recorded && !bytes.equals(encodeEvent(recorded))) {
      throw diverged(
        target,
        recorded,
        `"${emitted.type}" (version ${emitted.version}) for ${JSON.stringify(emitted.key)} with ${emitted.data}`,
      )
    }
    return recorded
  }

  passed(target: number, { causePartition }: EventRecord, applied: EventRecord | undefined): void {
    if (applied === undefined) return
    const channel = this.#channel(causePartition, target)
    assert(
      applied.channelNumber === channel.applied,
      'events of a channel are applied in the order of their numbers',
      applied.channelNumber,
      channel.applied,
    )
    const first = this.#queues.shift(channel)
    assert(first !== undefined, 'an event that was applied is the first of its channel')
  }

  /** Every message of the live generation has a place of its own in the log. */
  applyAhead(): void {}

  applyDue(): number {
    return 0
  }

  isDue(): boolean {
    return false
  }

  *underWay(): Iterable<EventRecord> {
    for (let target = 0; target < this.#partitions; target++) yield* this.waitingFor(target)
  }

  /** All events that a partition has not applied yet, each channel in its order; none of them is loaded. */
  *waitingFor(target: number): Iterable<EventRecord> {
    for (const channel of this.into(target))
      for (const { record } of this.#queues.waiting(channel)) yield record
  }

  /** The channels to a partition. */
  *into(target: number): Iterable<SpilledQueue<SentEvent>> {
    for (let source = 0; source < this.#partitions; source++) {
      const channel = this.#queues.find(source, target)
      if (channel) yield channel
    }
  }

  /** An event that waits; undefined if it was not sent yet. */
  at(source: number, target: number, number: number): SentEvent | undefined {
    return this.#queues.at(this.#channel(source, target), number)
  }

  /** Log time of the cause of the oldest event that waits. */
  get oldestAt(): number | undefined {
    let oldest: number | undefined
    for (const channel of this.#queues.all()) {
      const { applied, next } = channel
      if (applied === next) continue
      const { time } = this.#queues.peek(channel, applied)
      if (oldest === undefined || time < oldest) oldest = time
    }
    return oldest
  }

  /** Whether events with this cause are in the state only. */
  hasDroppedFrom({ partition, offset }: Position): boolean {
    for (let target = 0; target < this.#partitions; target++) {
      const channel = this.#queues.find(partition, target)
      if (channel === undefined) continue
      // A source applies its records in order, so a channel is in the order of causes.
      let from = channel.applied + channel.head.length
      const end = channel.next - channel.tail.length
      for (let to = end; from < to; ) {
        const middle = Math.floor((from + to) / 2)
        if (this.#queues.peek(channel, middle).record.causeOffset < offset) from = middle + 1
        else to = middle
      }
      if (from < end && this.#queues.peek(channel, from).record.causeOffset === offset) return true
    }
    return false
  }

  /** Puts the events that wait into the state; call it before the state is saved. */
  flush(): void {
    this.#queues.flush()
  }

  /** For a checkpoint. */
  save(): SavedQueue[] {
    return Array.from(this.#queues.all(), savedQueue)
  }

  restore(saved: readonly SavedQueue[]): void {
    for (const channel of saved) this.#queues.restore(channel)
  }

  #channel(source: number, target: number): SpilledQueue<SentEvent> {
    assert(source < this.#partitions, 'the cause of an event stands in a partition of the log', source)
    assert(target < this.#partitions, 'the target of an event is a partition of the log', target)
    return this.#queues.queue(source, target)
  }
}

const waitingCodec: Codec<SentEvent> = {
  encode: ({ time, bytes }) => `${time} ${bytes.toString('base64')}`,
  decode(text) {
    const at = text.indexOf(' ')
    const bytes = Buffer.from(text.slice(at), 'base64')
    return { record: decodeRecord(bytes) as EventRecord, bytes, time: Number(text.slice(0, at)) }
  },
}

function gap(target: number, event: EventRecord, expected: number): HenceError {
  return operatorError(
    'channel-gap',
    `Partition ${target} got event ${event.channelNumber} from partition ${event.causePartition} before ` +
      `event ${expected}. The log has lost an event or holds one out of order; it must be repaired from a copy.`,
  )
}

function foreign(target: number, event: EventRecord, live: number): HenceError {
  return operatorError(
    'divergence',
    `The log of partition ${target} holds the event "${event.type}" of generation ${event.generation} ` +
      `where generation ${live} is live. The log is damaged, or was written by two processes.`,
  )
}

function diverged(target: number, event: EventRecord, emitted: string): HenceError {
  return operatorError(
    'divergence',
    `The log of partition ${target} holds the event "${event.type}" (version ${event.version}) for ` +
      `${JSON.stringify(event.key)} with ${event.data}, caused by record ${event.causeOffset} of ` +
      `partition ${event.causePartition}; derived again, that record emits ${emitted}. The code has ` +
      'changed, or is not deterministic.',
  )
}
