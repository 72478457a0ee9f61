import { HenceError } from '../failure.ts'
import { decodeRecord, type EventRecord, encodeEvent } from '../log/record.ts'

/**
 * The ways of events between partitions: one channel for every source and target, counted from 0 without
 * gaps. An event stays in its channel from its emission until its target has applied it, so what the log
 * lacks after a crash can be appended again, and what stands there twice is applied once.
 */
export class Channels {
  readonly #partitions: number
  readonly #channels = new Map<number, Channel>()

  constructor(partitions: number) {
    this.#partitions = partitions
  }

  /** Gives an event its number and keeps it until it is applied. */
  send(target: number, event: Omit<EventRecord, 'channelNumber'>): EventRecord {
    const channel = this.#channel(event.causePartition, target)
    const numbered = { ...event, channelNumber: channel.next++ }
    channel.waiting.push(numbered)
    return numbered
  }

  /**
   * What to do with an event that stands in the target's log.
   *
   * - `apply`: it is the next of its channel; once it was applied, `applied` takes it out.
   * - `seen`: it was applied before.
   * - `early`: its cause has not been derived yet (in a replay, where partitions advance side by side).
   *
   * @throws HenceError `channel-gap` (operator) when an event before it is missing, and `divergence`
   *   (operator) when the derivation of its cause does not emit what the log holds
   */
  arrive(target: number, event: EventRecord, causeDerived: boolean): 'apply' | 'seen' | 'early' {
    const channel = this.#channel(event.causePartition, target)
    if (event.channelNumber < channel.applied) return 'seen'
    if (event.channelNumber > channel.applied) throw gap(target, event, channel.applied)
    const emitted = channel.waiting.at(0)
    if (emitted === undefined) {
      if (causeDerived) throw diverged(target, event, 'nothing')
      return 'early'
    }
    if (emitted !== event && !encodeEvent(emitted).equals(encodeEvent(event))) {
      throw diverged(
        target,
        event,
        `"${emitted.type}" (version ${emitted.version}) for ${JSON.stringify(emitted.key)} with ${emitted.data}`,
      )
    }
    return 'apply'
  }

  /** Takes an event that was applied out of its channel. */
  applied(target: number, { causePartition }: EventRecord): void {
    const channel = this.#channel(causePartition, target)
    channel.waiting.shift()
    channel.applied++
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
      const channel = this.#channel(source, target)
      channel.next = next
      channel.applied = applied
      for (const event of waiting)
        channel.waiting.push(decodeRecord(Buffer.from(event, 'base64')) as EventRecord)
    }
  }

  #channel(source: number, target: number): Channel {
    const at = source * this.#partitions + target
    let channel = this.#channels.get(at)
    if (channel === undefined) {
      channel = { next: 0, applied: 0, waiting: new Queue() }
      this.#channels.set(at, channel)
    }
    return channel
  }
}

interface Channel {
  /** The number that the source's next event gets. */
  next: number
  /** How many the target has applied: the number that it expects next. */
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

/** First in, first out, without moving what remains. */
export class Queue<T> {
  #items: T[] = []
  #head = 0

  get length(): number {
    return this.#items.length - this.#head
  }

  push(item: T): void {
    this.#items.push(item)
  }

  at(index: number): T | undefined {
    return this.#items[this.#head + index]
  }

  shift(): T | undefined {
    const item = this.#items[this.#head]
    this.#items[this.#head++] = undefined as T
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i]!
  }
}

function gap(target: number, event: EventRecord, expected: number): HenceError {
  return new HenceError(
    'channel-gap',
    'operator',
    `Partition ${target} got event ${event.channelNumber} from partition ${event.causePartition} before event ${expected}. ` +
      'The log has lost an event or holds one out of order; it must be repaired from a copy.',
  )
}

function diverged(target: number, event: EventRecord, emitted: string): HenceError {
  return new HenceError(
    'divergence',
    'operator',
    `The log of partition ${target} holds the event "${event.type}" (version ${event.version}) for ${JSON.stringify(event.key)} with ${event.data}, ` +
      `caused by record ${event.causeOffset} of partition ${event.causePartition}; derived again, that record emits ${emitted}. ` +
      'The code has changed, or is not deterministic.',
  )
}
