import type { App, Enqueued, Outcome, Reply } from '../app/index.ts'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import type { StoredOutcome } from '../derivation/stored-outcome.ts'
import { HenceError } from '../failure.ts'
import { type Identity, identityOf, requestIdOf } from '../identity.ts'
import { encodeRequest, type RequestRecord } from '../log/record.ts'
import { type AdmittedRequest, inputOf, messageOf, requestOf, sameMessage } from './message.ts'
import { checkWindow } from './window.ts'
import type { OutgoingRecord } from './writer.ts'

/** The parts of the engine that admission calls. */
interface AdmissionHost {
  /** The app whose requests are admitted. */
  app(): App
  /** Queues a request for its partition's log. */
  write(partition: number, draft: OutgoingRecord): void
  partitionOf(key: string): number
  decided(identity: Identity): StoredOutcome | undefined
  /** The request at a position of the log. */
  read(partition: number, offset: number): Promise<RequestRecord>
  /** The log time of the last applied record. */
  logTime(): number
  /** Why no request is admitted any more; undefined while they are. */
  closed(): HenceError | undefined
}

/** A request between its admission and its outcome. */
interface InFlight {
  readonly identity: Identity
  readonly type: string
  readonly input: string
  readonly bytes: number
  /** The first waiter sent the request; the others are retries of it. */
  readonly waiters: Waiter[]
  /** Set when it was appended earlier, for example by another process, and waits for its claims. */
  readonly place?: StoredOutcome
  /** Set while it is unknown whether the log has it; resolves when that is known. */
  certain?: Promise<void>
  setCertain?: () => void
}

interface Waiter {
  resolve(reply: Reply): void
  reject(error: unknown): void
  /** Called when the request is durable, for `enqueue`. */
  durable?: (enqueued: Enqueued) => void
}

/**
 * Admits requests: refuses invalid ones and overload before anything is written, appends each id once, and answers
 * every retry with the first outcome.
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

  /** The current log time: that of the clock, but never earlier than the last record's. */
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

  /** Called when a request has been applied or decided; answers its waiters. */
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
   * Called when an append failed: rejects its waiters with a retryable error, and keeps the id until it is known
   * whether the log has the request, so that a retry cannot be appended meanwhile.
   */
  uncertain(identity: Identity, error: HenceError): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    for (const waiter of entry.waiters.splice(0)) waiter.reject(error)
    entry.certain = new Promise((resolve) => {
      entry.setCertain = resolve
    })
  }

  /** Called when the log has been read again: a request that it lacks may now be sent anew. */
  certain(identity: Identity): void {
    const entry = this.#inFlight.get(identity)
    if (entry) this.#leave(entry)
  }

  /** Rejects all waiters. */
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
        `${this.#inFlight.size} requests with ${this.#queuedBytes} bytes are waiting, and the limit is ` +
          `${this.#queueBytesMax} bytes. Nothing was written: send the same request again later.`,
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

  /** Answers a retry with the first outcome, once there is one. */
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
    // The engine may have closed meanwhile: it would never answer a new waiter.
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
    assert(
      this.#queuedBytes >= 0,
      'requests leave the queue with the bytes they entered with',
      this.#queuedBytes,
    )
    entry.setCertain?.()
  }
}

function enqueuedAt(identity: Identity, { partition, offset }: StoredOutcome): Enqueued {
  return { requestId: requestIdOf(identity), token: `${partition}:${offset}` }
}

function reused(identity: Identity, type: string): HenceError {
  return new HenceError(
    'request-id-reused',
    'change',
    `The request id ${requestIdOf(identity)} was sent before with other content, as "${type}". Nothing was changed: ` +
      'a new request needs a new id, and a retry must send the same input.',
  )
}
