import { assert } from '../assert.ts'
import type { EventSpan } from '../log/record.ts'
import type { Collection } from '../state/cells.ts'
import { encodeKey } from '../state/keys.ts'
import { Queue } from './queue.ts'

/** How many bytes of messages that wait stay in memory after a checkpoint. */
export const heldBytesMax = 4 * 1024 * 1024

/**
 * Queues of messages that wait, one for each source and target, numbered from 0 without gaps.
 *
 *   source, target, number → the message
 *
 * While a target cannot be written very many may wait, and in a replay of that time again. So a checkpoint
 * writes only what has changed of them, and if they take too much memory it drops what the state has; that is
 * read again, some at a time, when the target goes on:
 *
 *   applied ─ head ─ (in the state only) ─ tail ─ next
 */
export class SpilledQueues<Message> {
  readonly #stored: Collection<Message>
  readonly #heldBytesMax: number
  readonly #host: QueuesHost<Message>
  readonly #targets: number
  readonly #queues = new Map<number, SpilledQueue<Message>>()
  /** How many messages wait, and in how many queues. */
  #waiting = 0
  #busy = 0
  #bytes = 0
  /** Those in memory. */
  #held = 0
  #heldBytes = 0
  /** Those that came since the last checkpoint. */
  #newBytes = 0

  /**
   * @param targets how many there are
   * @param bytesMax how many bytes of messages stay in memory after a checkpoint
   */
  constructor(stored: Collection<Message>, targets: number, bytesMax: number, host: QueuesHost<Message>) {
    this.#stored = stored
    this.#targets = targets
    this.#heldBytesMax = bytesMax
    this.#host = host
  }

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** The bytes of all messages that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** The bytes of those in memory. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Whether some messages are in the state only. */
  get hasDropped(): boolean {
    return this.#waiting > this.#held
  }

  /** How many checkpoints' worth of new messages are in memory. */
  get checkpointsDue(): number {
    return this.#newBytes / this.#heldBytesMax
  }

  /** A queue, which is made if there is none. */
  queue(source: number, target: number): SpilledQueue<Message> {
    let queue = this.find(source, target)
    if (queue === undefined) {
      const [head, tail] = [new Queue<Message>(), new Queue<Message>()]
      queue = { source, target, next: 0, applied: 0, head, tail, bytes: 0, stored: { from: 0, to: 0 } }
      this.#queues.set(source * this.#targets + target, queue)
    }
    return queue
  }

  /** A queue, if there is one. */
  find(source: number, target: number): SpilledQueue<Message> | undefined {
    return this.#queues.get(source * this.#targets + target)
  }

  push(queue: SpilledQueue<Message>, message: Message): void {
    const { head, tail } = queue
    if (queue.applied + head.length === queue.next) head.push(message)
    else tail.push(message)
    if (queue.applied === queue.next) this.#busy++
    queue.next++
    this.#waiting++
    const bytes = this.#host.bytesOf(message)
    this.#bytes += bytes
    queue.bytes += bytes
    this.#newBytes += bytes
    this.#hold(message)
  }

  /** Removes the first message. */
  shift(queue: SpilledQueue<Message>): Message | undefined {
    const first = this.at(queue, queue.applied) && queue.head.shift()
    if (first === undefined) return undefined
    const bytes = this.#host.bytesOf(first)
    if (queue.applied >= queue.stored.to) this.#newBytes -= bytes
    queue.applied++
    if (queue.applied === queue.next) this.#busy--
    queue.bytes -= bytes
    this.#waiting--
    this.#bytes -= bytes
    this.#held--
    this.#heldBytes -= bytes
    return first
  }

  /** A message that waits, and is in memory from then on; undefined if it was not sent yet. */
  at(queue: SpilledQueue<Message>, number: number): Message | undefined {
    assert(number >= queue.applied, 'an event that was applied is not looked for', number, queue.applied)
    for (;;) {
      const { applied, next, head, tail } = queue
      if (head.length === 0 && applied === next - tail.length) {
        queue.head = tail
        queue.tail = head
      }
      const found = this.#inMemory(queue, number)
      if (found !== undefined || number >= next) return found
      this.#load(queue)
    }
  }

  /** A message that waits; it is not loaded. */
  peek(queue: SpilledQueue<Message>, number: number): Message {
    return this.#inMemory(queue, number) ?? this.#read(queue, number)
  }

  /** All messages of a queue, in order; none of them is loaded. */
  *waiting(queue: SpilledQueue<Message>): Iterable<Message> {
    for (let number = queue.applied; number < queue.next; number++) yield this.peek(queue, number)
  }

  /** Puts the messages that wait into the state; call it before the state is saved. */
  flush(): void {
    for (const queue of this.all()) {
      const { next, applied, stored } = queue
      for (let number = stored.from; number < Math.min(applied, stored.to); number++)
        this.#stored.delete(keyOf(queue, number))
      for (let number = Math.max(applied, stored.to); number < next; number++) {
        const message = this.#inMemory(queue, number)!
        // It is in memory twice: as it was sent, and as the state encodes it.
        this.#stored.add(keyOf(queue, number), message, 2 * this.#host.bytesOf(message))
      }
      queue.stored = { from: applied, to: next }
    }
    this.#newBytes = 0
    if (this.#heldBytes > this.#heldBytesMax) this.#drop()
  }

  restore(saved: SavedQueue): SpilledQueue<Message> {
    const { source, target, next, applied, bytes } = saved
    const queue = this.queue(source, target)
    queue.next = next
    queue.applied = applied
    queue.bytes = bytes
    queue.stored = { from: applied, to: next }
    if (applied < next) this.#busy++
    this.#waiting += next - applied
    this.#bytes += bytes
    return queue
  }

  all(): Iterable<SpilledQueue<Message>> {
    return this.#queues.values()
  }

  #inMemory({ applied, next, head, tail }: SpilledQueue<Message>, number: number): Message | undefined {
    if (number < applied + head.length) return head.at(number - applied)
    const inTail = number - next + tail.length
    return inTail < 0 ? undefined : tail.at(inTail)
  }

  #read(queue: SpilledQueue<Message>, number: number): Message {
    const message = this.#stored.get(keyOf(queue, number))
    assert(message !== undefined, 'the state has the events that were sent and not applied', number)
    return message
  }

  /** Reads the messages behind the head; all queues together have about half of what memory may have. */
  #load(queue: SpilledQueue<Message>): void {
    const { applied, next, head, tail } = queue
    const bytesMax = this.#heldBytesMax / 2 / this.#busy
    for (let bytes = 0; bytes < bytesMax && applied + head.length < next - tail.length; ) {
      const message = this.#read(queue, applied + head.length)
      head.push(message)
      this.#hold(message)
      bytes += this.#host.bytesOf(message)
    }
  }

  #hold(message: Message): void {
    this.#held++
    this.#heldBytes += this.#host.bytesOf(message)
    this.#host.held(message)
  }

  /** Drops all messages from memory: the state has them. */
  #drop(): void {
    for (const queue of this.all()) {
      for (const messages of [queue.head, queue.tail])
        for (const message of messages) this.#host.dropped(message)
      queue.head = new Queue()
      queue.tail = new Queue()
    }
    this.#held = this.#heldBytes = 0
  }
}

interface QueuesHost<Message> {
  /** About how many bytes it takes. */
  readonly bytesOf: (message: Message) => number
  /** Called when a message is in memory, and when it is dropped before it was applied. */
  readonly held: (message: Message) => void
  readonly dropped: (message: Message) => void
}

export interface SpilledQueue<Message> extends SavedQueue {
  next: number
  applied: number
  /** The messages in memory from `applied` on, and those up to `next`; the state has all in between. */
  head: Queue<Message>
  tail: Queue<Message>
  bytes: number
  /** The numbers of the messages that the state has. */
  stored: { readonly from: number; readonly to: number }
}

export interface SavedQueue extends EventSpan {
  readonly target: number
  /** Of the messages that wait. */
  readonly bytes: number
}

/** A queue for a checkpoint. */
export function savedQueue({ source, target, next, applied, bytes }: SavedQueue): SavedQueue {
  return { source, target, next, applied, bytes }
}

function keyOf({ source, target }: SavedQueue, number: number): string {
  return encodeKey([source, target, number])
}
