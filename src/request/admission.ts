import type { App, Enqueued, Outcome, Reply } from '../app/index.ts'
import type { Clock } from '../clock.ts'
import type { StoredOutcome } from '../derivation/stored-outcome.ts'
import { HenceError } from '../failure.ts'
import { type Identity, identityOf, requestIdOf } from '../identity.ts'
import { encodeRequest, type RequestRecord } from '../log/record.ts'
import { type AdmittedRequest, inputOf, messageOf, requestOf, sameMessage } from './message.ts'
import { checkWindow } from './window.ts'
import type { OutgoingRecord } from './writer.ts'

/** What admission needs of the rest of the engine. */
export interface AdmissionHost {
  /** The app whose requests are taken. */
  app(): App
  /** Brings a request to the log. */
  write(partition: number, draft: OutgoingRecord): void
  partitionOf(key: string): number
  decided(identity: Identity): StoredOutcome | undefined
  /** The request that stands at a place of the log. */
  read(partition: number, offset: number): Promise<RequestRecord>
  /** The time of the last record that was applied. */
  logTime(): number
  /** Why nothing is taken any more; undefined when it is. */
  closed(): HenceError | undefined
}

/** A request between its admission and its outcome. */
interface InFlight {
  readonly identity: Identity
  readonly type: string
  readonly input: string
  readonly bytes: number
  /** The first to wait is the one who sent it; the others came with the same id meanwhile. */
  readonly waiters: Waiter[]
  /** Set when it was sent before, to another process say, and waits for its claims. */
  readonly place?: StoredOutcome
  /** Set while it is not known whether the log has it; resolves when it is. */
  certain?: Promise<void>
  settle?: () => void
}

interface Waiter {
  resolve(reply: Reply): void
  reject(error: unknown): void
  /** Called when the request is durable; for those who do not wait for its outcome. */
  durable?: (enqueued: Enqueued) => void
}

/**
 * Lets requests in: refuses what is wrong or too much before anything is written, brings each id to the log
 * once, and gives every retry the first outcome.
 */
export class Admission {
  readonly #clock: Clock
  readonly #windowMs: number
  readonly #queueBytesMax: number
  readonly #host: AdmissionHost
  readonly #inFlight = new Map<Identity, InFlight>()
  #queuedBytes = 0
  /** Replies since the start. */
  readonly replies = { accepted: 0, rejected: 0, failed: 0, replayed: 0 }

  constructor(
    options: { readonly clock: Clock; readonly windowMs: number; readonly queueBytesMax: number },
    host: AdmissionHost,
  ) {
    this.#clock = options.clock
    this.#windowMs = options.windowMs
    this.#queueBytesMax = options.queueBytesMax
    this.#host = host
  }

  /** Log time now: that of the clock, but never before the last record's. */
  now(): number {
    return Math.max(this.#host.logTime(), this.#clock.now())
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  submit(type: string, input: unknown, requestId: string, principal: string): Promise<Reply> {
    return new Promise((resolve, reject) =>
      this.#send(type, input, requestId, principal, { resolve, reject }),
    )
  }

  enqueue(type: string, input: unknown, requestId: string, principal: string): Promise<Enqueued> {
    return new Promise((resolve, reject) => {
      const durable = ({ requestId, token }: Enqueued) => resolve({ requestId, token })
      this.#send(type, input, requestId, principal, { resolve: durable, reject, durable })
    })
  }

  #send(type: string, input: unknown, requestId: string, principal: string, waiter: Waiter): void {
    try {
      const closed = this.#host.closed()
      if (closed) throw closed
      const request = requestOf(this.#host.app(), type)
      const identity = identityOf(requestId, principal)
      checkWindow(identity, this.now(), this.#windowMs)
      const sent = inputOf(type, input)
      const first = this.#inFlight.get(identity)
      if (first) {
        this.#attach(first, type, sent.text, waiter, () => this.submit(type, input, requestId, principal))
        return
      }
      const decided = this.#host.decided(identity)
      if (decided) {
        this.#replay(decided, identity, type, sent.text, waiter).catch(waiter.reject)
        return
      }
      this.#admit(identity, messageOf(request, sent), waiter)
    } catch (error) {
      waiter.reject(error)
    }
  }

  /** Called when a request has been applied or decided; tells those who wait for that. */
  decided(identity: Identity, decided: StoredOutcome): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    const { outcome } = decided
    if (outcome === undefined) {
      for (const waiter of entry.waiters) waiter.durable?.(enqueuedAt(identity, decided))
      return
    }
    this.#leave(entry)
    for (const [i, waiter] of entry.waiters.entries()) {
      waiter.resolve(this.#reply(identity, decided, outcome, i > 0 || entry.place !== undefined))
    }
  }

  /**
   * Called when an append failed: tells those who wait to try again, and keeps the ids until it is known
   * whether the log has them, so that a retry cannot come in between.
   */
  uncertain(identity: Identity, error: HenceError): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    for (const waiter of entry.waiters.splice(0)) waiter.reject(error)
    entry.certain = new Promise((resolve) => {
      entry.settle = resolve
    })
  }

  /** Called when the log has been read again: what it has is decided, what it lacks may come as new. */
  certain(identity: Identity): void {
    const entry = this.#inFlight.get(identity)
    if (entry) this.#leave(entry)
  }

  /** Tells all who still wait. */
  abandon(error: HenceError): void {
    for (const entry of this.#inFlight.values()) {
      this.#leave(entry)
      for (const waiter of entry.waiters) waiter.reject(error)
    }
  }

  #admit(identity: Identity, message: AdmittedRequest, waiter: Waiter): void {
    const { type, version, input, output, key } = message
    const bytes = encodeRequest(identity, type, input, output, version)
    if (this.#queuedBytes + bytes.length > this.#queueBytesMax && this.#queuedBytes > 0) {
      throw new HenceError(
        'overloaded',
        'retry',
        `${this.#inFlight.size} requests with ${this.#queuedBytes} bytes wait already, and ${this.#queueBytesMax} bytes are ` +
          'the limit. Nothing was written: send the same request again a little later.',
      )
    }
    this.#queuedBytes += bytes.length
    this.#inFlight.set(identity, { identity, type, input, bytes: bytes.length, waiters: [waiter] })
    this.#host.write(this.#host.partitionOf(key), {
      record: { kind: 'request', identity, type, version, input, output },
      bytes,
    })
  }

  #attach(first: InFlight, type: string, input: string, waiter: Waiter, again: () => Promise<Reply>): void {
    if (first.certain) {
      first.certain.then(again).then(waiter.resolve, waiter.reject)
      return
    }
    if (!sameMessage(first, { type, input })) throw reused(first.identity, first.type)
    first.waiters.push(waiter)
    const decided = this.#host.decided(first.identity)
    if (decided) waiter.durable?.(enqueuedAt(first.identity, decided))
  }

  /** Gives the outcome of the first time, once there is one. */
  async #replay(
    place: StoredOutcome,
    identity: Identity,
    type: string,
    input: string,
    waiter: Waiter,
  ): Promise<void> {
    const first = await this.#host.read(place.partition, place.offset)
    if (!sameMessage(first, { type, input })) throw reused(identity, first.type)
    const decided = this.#host.decided(identity) ?? place
    if (decided.outcome !== undefined) {
      waiter.resolve(this.#reply(identity, decided, decided.outcome, true))
      return
    }
    // Whoever comes to wait now would not hear of it.
    const closed = this.#host.closed()
    if (closed) throw closed
    waiter.durable?.(enqueuedAt(identity, decided))
    const others = this.#inFlight.get(identity)
    if (others) others.waiters.push(waiter)
    else this.#inFlight.set(identity, { identity, type, input, bytes: 0, waiters: [waiter], place: decided })
  }

  #reply(identity: Identity, place: StoredOutcome, outcome: Outcome, replayed: boolean): Reply {
    this.replies[replayed ? 'replayed' : outcome.status]++
    return { ...outcome, ...enqueuedAt(identity, place), replayed }
  }

  #leave(entry: InFlight): void {
    this.#inFlight.delete(entry.identity)
    this.#queuedBytes -= entry.bytes
    entry.settle?.()
  }
}

function enqueuedAt(identity: Identity, { partition, offset }: StoredOutcome): Enqueued {
  return { requestId: requestIdOf(identity), token: `${partition}:${offset}` }
}

function reused(identity: Identity, type: string): HenceError {
  return new HenceError(
    'request-id-reused',
    'change',
    `The request id ${requestIdOf(identity)} was sent before with another content, as "${type}". Nothing was changed: ` +
      'a new wish needs a new id, and a retry must send the same input.',
  )
}
