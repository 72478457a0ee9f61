import { assert } from '../assert.ts'
import { type HenceError, operatorError } from '../failure.ts'
import type { Position } from '../log/log.ts'
import { decodeRecord, type EventRecord, type EventSpan, encodeEvent, type SentEvent } from '../log/record.ts'
import type { Codec, Collection } from '../state/cells.ts'
import { encodeKey } from '../state/keys.ts'
import type { State } from '../state/state.ts'
import type { Completion } from './completion.ts'
import type { DueMessage, EventOrder } from './event-order.ts'
import { Queue } from './queue.ts'

/** How many bytes of events stay in memory after a checkpoint. */
export const heldBytesMax = 4 * 1024 * 1024

/**
 * The event order of the live generation: one channel for each source and target partition, numbered from 0
 * without gaps. An event stays in its channel from its emission until its target has applied it. So events
 * that the log lacks after a crash can be appended again, and an event that stands in the log twice is
 * applied once.
 *
 *   waiting  source, target, number → log time of the cause, and the event in base64
 *
 * While a target cannot be written very many may wait. So a checkpoint writes only what has changed of them,
 * and if they take too much memory it drops what the state has; that is read again, some at a time, when the
 * target goes on:
 *
 *   applied ─ head ─ (in the state only) ─ tail ─ next
 */
export class Channels implements EventOrder {
  readonly #generation: number
  readonly #partitions: number
  readonly #heldBytesMax: number
  readonly #completion: Pick<Completion, 'emitted' | 'dropped'>
  readonly #channels = new Map<number, Channel>()
  readonly #stored: Collection<SentEvent>
  /** How many events wait, and in how many channels. */
  #waiting = 0
  #busy = 0
  #bytes = 0
  /** Those in memory. */
  #held = 0
  #heldBytes = 0
  /** Those that came since the last checkpoint. */
  #newBytes = 0

  static readonly collections = ['waiting']

  /**
   * @param completion gets the events in memory
   * @param bytesMax how many bytes of events stay in memory after a checkpoint
   */
  constructor(
    state: State,
    generation: number,
    partitions: number,
    completion: Pick<Completion, 'emitted' | 'dropped'>,
    bytesMax: number = heldBytesMax,
  ) {
    this.#stored = state.collection('waiting', waitingCodec, false)
    this.#generation = generation
    this.#partitions = partitions
    this.#completion = completion
    this.#heldBytesMax = bytesMax
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** The bytes of all events that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** The bytes of those in memory. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Whether some events are in the state only. */
  get hasDropped(): boolean {
    return this.#waiting > this.#held
  }

  /** How many checkpoints' worth of new events are in memory. */
  get checkpointsDue(): number {
    return this.#newBytes / this.#heldBytesMax
  }

  send(source: number, target: number, event: Omit<EventRecord, 'channelNumber'>, time: number): EventRecord {
    const channel = this.#channel(source, target)
    const record = { ...event, channelNumber: channel.next }
    const sent = { record, bytes: encodeEvent(record), time }
    const { head, tail } = channel
    if (channel.applied + head.length === channel.next) head.push(sent)
    else tail.push(sent)
    if (channel.applied === channel.next) this.#busy++
    channel.next++
    this.#waiting++
    this.#bytes += sent.bytes.length
    channel.bytes += sent.bytes.length
    this.#newBytes += sent.bytes.length
    this.#hold(sent)
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
    const first = this.#at(channel, channel.applied)
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
    const first = this.#at(channel, channel.applied) && channel.head.shift()
    assert(first !== undefined, 'an event that was applied is the first of its channel')
    assert(
      applied.channelNumber === channel.applied,
      'events of a channel are applied in the order of their numbers',
      applied.channelNumber,
      channel.applied,
    )
    const { length } = first.bytes
    if (channel.applied >= channel.stored.to) this.#newBytes -= length
    channel.applied++
    if (channel.applied === channel.next) this.#busy--
    channel.bytes -= length
    this.#waiting--
    this.#bytes -= length
    this.#held--
    this.#heldBytes -= length
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
    for (const channel of this.#into(target))
      for (let number = channel.applied; number < channel.next; number++)
        yield (this.#inMemory(channel, number) ?? this.#read(channel, number)).record
  }

  /** The channels to a partition. */
  into(target: number): Iterable<EventSpan> {
    return this.#into(target)
  }

  /** An event that waits; undefined if it was not sent yet. */
  at(source: number, target: number, number: number): SentEvent | undefined {
    return this.#at(this.#channel(source, target), number)
  }

  /** Log time of the cause of the oldest event that waits. */
  get oldestAt(): number | undefined {
    let oldest: number | undefined
    for (const channel of this.#channels.values()) {
      const { applied, next } = channel
      if (applied === next) continue
      const { time } = this.#inMemory(channel, applied) ?? this.#read(channel, applied)
      if (oldest === undefined || time < oldest) oldest = time
    }
    return oldest
  }

  /** Whether events with this cause are in the state only. */
  hasDroppedFrom({ partition, offset }: Position): boolean {
    for (let target = 0; target < this.#partitions; target++) {
      const channel = this.#channels.get(partition * this.#partitions + target)
      if (channel === undefined) continue
      // A source applies its records in order, so a channel is in the order of causes.
      let from = channel.applied + channel.head.length
      const end = channel.next - channel.tail.length
      for (let to = end; from < to; ) {
        const middle = Math.floor((from + to) / 2)
        if (this.#read(channel, middle).record.causeOffset < offset) from = middle + 1
        else to = middle
      }
      if (from < end && this.#read(channel, from).record.causeOffset === offset) return true
    }
    return false
  }

  /** Puts the events that wait into the state; call it before the state is saved. */
  flush(): void {
    for (const channel of this.#channels.values()) {
      const { next, applied, stored } = channel
      for (let number = stored.from; number < Math.min(applied, stored.to); number++)
        this.#stored.delete(keyOf(channel, number))
      for (let number = Math.max(applied, stored.to); number < next; number++)
        this.#stored.add(keyOf(channel, number), this.#inMemory(channel, number)!)
      channel.stored = { from: applied, to: next }
    }
    this.#newBytes = 0
    if (this.#heldBytes > this.#heldBytesMax) this.#drop()
  }

  /** For a checkpoint. */
  save(): SavedChannel[] {
    return [...this.#channels.values()].map(({ source, target, next, applied, bytes }) => {
      return { source, target, next, applied, bytes }
    })
  }

  restore(saved: readonly SavedChannel[]): void {
    for (const { source, target, next, applied, bytes } of saved) {
      const channel = this.#channel(source, target)
      channel.next = next
      channel.applied = applied
      channel.bytes = bytes
      channel.stored = { from: applied, to: next }
      if (applied < next) this.#busy++
      this.#waiting += next - applied
      this.#bytes += bytes
    }
  }

  *#into(target: number): Iterable<Channel> {
    for (let source = 0; source < this.#partitions; source++) {
      const channel = this.#channels.get(source * this.#partitions + target)
      if (channel) yield channel
    }
  }

  /** An event that waits, and is in memory from then on. */
  #at(channel: Channel, number: number): SentEvent | undefined {
    assert(number >= channel.applied, 'an event that was applied is not looked for', number, channel.applied)
    for (;;) {
      const { applied, next, head, tail } = channel
      if (head.length === 0 && applied === next - tail.length) {
        channel.head = tail
        channel.tail = head
      }
      const found = this.#inMemory(channel, number)
      if (found !== undefined || number >= next) return found
      this.#load(channel)
    }
  }

  #inMemory({ applied, next, head, tail }: Channel, number: number): SentEvent | undefined {
    if (number < applied + head.length) return head.at(number - applied)
    const inTail = number - next + tail.length
    return inTail < 0 ? undefined : tail.at(inTail)
  }

  #read(channel: Channel, number: number): SentEvent {
    const event = this.#stored.get(keyOf(channel, number))
    assert(event !== undefined, 'the state has the events that were sent and not applied', number)
    return event
  }

  /** Reads the events behind the head; all channels together have about half of what memory may have. */
  #load(channel: Channel): void {
    const { applied, next, head, tail } = channel
    const bytesMax = this.#heldBytesMax / 2 / this.#busy
    for (let bytes = 0; bytes < bytesMax && applied + head.length < next - tail.length; ) {
      const event = this.#read(channel, applied + head.length)
      head.push(event)
      this.#hold(event)
      bytes += event.bytes.length
    }
  }

  #hold({ record, bytes }: SentEvent): void {
    this.#held++
    this.#heldBytes += bytes.length
    this.#completion.emitted(record.rootPartition, record.rootOffset)
  }

  /** Drops all events from memory: the state has them. */
  #drop(): void {
    for (const channel of this.#channels.values()) {
      for (const queue of [channel.head, channel.tail])
        for (const { record } of queue) this.#completion.dropped(record.rootPartition, record.rootOffset)
      channel.head = new Queue()
      channel.tail = new Queue()
    }
    this.#held = this.#heldBytes = 0
  }

  #channel(source: number, target: number): Channel {
    const at = source * this.#partitions + target
    let channel = this.#channels.get(at)
    if (channel === undefined) {
      assert(source < this.#partitions, 'the cause of an event stands in a partition of the log', source)
      assert(target < this.#partitions, 'the target of an event is a partition of the log', target)
      const [head, tail] = [new Queue<SentEvent>(), new Queue<SentEvent>()]
      channel = { source, target, next: 0, applied: 0, head, tail, bytes: 0, stored: { from: 0, to: 0 } }
      this.#channels.set(at, channel)
    }
    return channel
  }
}

interface Channel extends SavedChannel {
  next: number
  applied: number
  /** The events in memory from `applied` on, and those up to `next`; the state has all in between. */
  head: Queue<SentEvent>
  tail: Queue<SentEvent>
  bytes: number
  /** The numbers of the events that the state has. */
  stored: { readonly from: number; readonly to: number }
}

function keyOf({ source, target }: Channel, number: number): string {
  return encodeKey([source, target, number])
}

const waitingCodec: Codec<SentEvent> = {
  encode: ({ time, bytes }) => `${time} ${bytes.toString('base64')}`,
  decode(text) {
    const at = text.indexOf(' ')
    const bytes = Buffer.from(text.slice(at), 'base64')
    return { record: decodeRecord(bytes) as EventRecord, bytes, time: Number(text.slice(0, at)) }
  },
}

export interface SavedChannel extends EventSpan {
  readonly target: number
  /** Of the events that wait. */
  readonly bytes: number
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
