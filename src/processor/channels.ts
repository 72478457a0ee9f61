import { assert } from '../assert.ts'
import { type HenceError, operatorError } from '../failure.ts'
import { decodeRecord, type EventRecord, encodeEvent } from '../log/record.ts'
import type { DueMessage, EventOrder } from './event-order.ts'
import { Queue } from './queue.ts'

/**
 * The event order of the live generation: one channel for each source and target partition, numbered from 0
 * without gaps. An event stays in its channel from its emission until its target has applied it. So events
 * that the log lacks after a crash can be appended again, and an event that stands in the log twice is
 * applied once.
 */
export class Channels implements EventOrder {
  readonly #generation: number
  readonly #partitions: number
  readonly #channels = new Map<number, Channel>()
  #waiting = 0

  constructor(generation: number, partitions: number) {
    this.#generation = generation
    this.#partitions = partitions
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  send(source: number, target: number, event: Omit<EventRecord, 'channelNumber'>): EventRecord {
    const channel = this.#channel(source, target)
    const numbered = { ...event, channelNumber: channel.next++ }
    channel.waiting.push(numbered)
    this.#waiting++
    return numbered
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
    const emitted = channel.waiting.at(0)
    if (emitted === undefined) {
      if (isCauseDerived) throw diverged(target, recorded, 'nothing')
      return 'early'
    }
    if (emitted !== recorded && !encodeEvent(emitted).equals(encodeEvent(recorded))) {
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
    const first = channel.waiting.shift()
    assert(first !== undefined, 'an event that was applied is the first of its channel')
    assert(
      applied.channelNumber === channel.applied,
      'events of a channel are applied in the order of their numbers',
      applied.channelNumber,
      channel.applied,
    )
    channel.applied++
    this.#waiting--
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

  /** All events that a partition has not applied yet, each channel in its order. */
  waitingFor(target: number): EventRecord[] {
    const events: EventRecord[] = []
    for (let source = 0; source < this.#partitions; source++) {
      const channel = this.#channels.get(source * this.#partitions + target)
      if (channel) events.push(...channel.waiting)
    }
    return events
  }

  /** For a checkpoint. */
  save(): SavedChannel[] {
    return [...this.#channels].map(([at, { next, applied, waiting }]) => ({
      source: Math.floor(at / this.#partitions),
      target: at % this.#partitions,
      next,
      applied,
      waiting: [...waiting].map((event) => encodeEvent(event).toString('base64')),
    }))
  }

  restore(saved: readonly SavedChannel[]): void {
    for (const { source, target, next, applied, waiting } of saved) {
      assert(
        applied >= 0 && next - applied === waiting.length,
        'a saved channel holds the events that were sent and not applied',
        waiting.length,
        next - applied,
      )
      const channel = this.#channel(source, target)
      channel.next = next
      channel.applied = applied
      for (const event of waiting)
        channel.waiting.push(decodeRecord(Buffer.from(event, 'base64')) as EventRecord)
      this.#waiting += waiting.length
    }
  }

  #channel(source: number, target: number): Channel {
    const at = source * this.#partitions + target
    let channel = this.#channels.get(at)
    if (channel === undefined) {
      assert(source < this.#partitions, 'the cause of an event stands in a partition of the log', source)
      assert(target < this.#partitions, 'the target of an event is a partition of the log', target)
      channel = { next: 0, applied: 0, waiting: new Queue() }
      this.#channels.set(at, channel)
    }
    return channel
  }
}

interface Channel {
  /** The number of the next event that the source sends. */
  next: number
  /** How many events the target has applied: the number that it expects next. */
  applied: number
  readonly waiting: Queue<EventRecord>
}

export interface SavedChannel {
  readonly source: number
  readonly target: number
  readonly next: number
  readonly applied: number
  /** Records in base64. */
  readonly waiting: readonly string[]
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
