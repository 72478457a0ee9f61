import type { Enqueued, Outcome, Reply } from '../app/index.ts'
import { assert } from '../assert.ts'
import type { DecidedOutcome, StoredOutcome } from '../derivation/stored-outcome.ts'
import { changeError, type HenceError, retryError } from '../failure.ts'
import { type Identity, requestIdOf } from '../identity.ts'
import { encodeRequest } from '../log/record.ts'
import { type AdmittedRequest, sameMessage } from './message.ts'
import type { OutgoingRecord } from './writer.ts'

/** A sender waits until its request is durable (`enqueue`), or until it is decided (`submit`). */
export type Until = 'durable' | 'decided'

/** The part of a request that a retry must repeat: `input` as JSON text. */
interface SentMessage {
  readonly type: string
  readonly input: string
}

/** A request between its admission and its outcome. */
interface InFlight extends SentMessage {
  readonly identity: Identity
  readonly bytes: number
  /** The first waiter sent the request; the others are retries of it. */
  readonly waiters: WaitingSender[]
  /** Set when it was appended earlier, for example by another process, and waits for its claims. */
  readonly stored?: DecidedOutcome
  /** Where the log has it, once it waits for its claims. */
  waitsAt?: DecidedOutcome
  /** Set while it is unknown whether the log has it; resolves when that is known. */
  certain?: Promise<void>
  setCertain?: () => void
}

interface SentBefore {
  readonly first: InFlight | undefined
  readonly stored: StoredOutcome | undefined
}

export interface WaitingSender {
  readonly until: Until
  /** Whether it has waited since an earlier look at what is held up. */
  isLate?: true
  resolve(answer: Reply | Enqueued): void
  reject(error: unknown): void
}

/**
 * The requests that were admitted and are not decided yet, with their senders: bounds their bytes, lets every
 * retry wait beside the first sender, and answers all of them.
 */
export class Admission {
  readonly #queueBytesMax: number
  readonly #storedOutcome: (identity: Identity) => StoredOutcome | undefined
  readonly #inFlight = new Map<Identity, InFlight>()
  #queuedBytes = 0
  /** Replies since the start. */
  readonly replies = { accepted: 0, rejected: 0, failed: 0, replayed: 0 }

  /** @param storedOutcome returns what the live generation has derived for an identity */
  constructor(queueBytesMax: number, storedOutcome: (identity: Identity) => StoredOutcome | undefined) {
    this.#queueBytesMax = queueBytesMax
    this.#storedOutcome = storedOutcome
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /**
   * Finds whether a request is a retry: its first sending is still under way (`first`), the log has it
   * (`stored`), or both. A request that was never sent before has neither.
   */
  sentBefore(identity: Identity): SentBefore {
    return { first: this.#inFlight.get(identity), stored: this.#storedOutcome(identity) }
  }

  has(identity: Identity): boolean {
    return this.#inFlight.has(identity)
  }

  /**
   * Admits a request that was not sent before.
   * @param heldBytes the bytes of events that wait to be written, which count too
   * @returns the record to append
   * @throws HenceError `overloaded` (retry)
   */
  admit(
    identity: Identity,
    message: AdmittedRequest,
    sender: WaitingSender,
    heldBytes: number,
  ): OutgoingRecord {
    const { type, version, input, output, parsed, inReplyTo } = message
    const bytes = encodeRequest(identity, type, input, output, version, inReplyTo)
    const waiting = this.#queuedBytes + heldBytes
    if (waiting + bytes.length > this.#queueBytesMax && waiting > 0) {
      throw retryError(
        'overloaded',
        `${this.#inFlight.size} requests with ${this.#queuedBytes} bytes are waiting, and ${heldBytes} bytes of events, ` +
          `and the limit is ${this.#queueBytesMax} bytes. Nothing was written: send the same request again later.`,
      )
    }
    this.#queuedBytes += bytes.length
    const entry: InFlight = { identity, type, input, bytes: bytes.length, waiters: [sender] }
    this.#inFlight.set(identity, entry)
    const reply = inReplyTo !== undefined && { inReplyTo }
    return { record: { kind: 'request', identity, type, version, input, output, ...reply, parsed }, bytes }
  }

  /**
   * Lets a retry wait beside the first sender.
   * @param stored where the log has the request; undefined while it is being appended
   * @throws HenceError `request-id-reused` (change)
   */
  join(
    first: InFlight,
    sent: SentMessage,
    stored: DecidedOutcome | undefined,
    until: Until,
  ): Promise<Reply | Enqueued> {
    checkSame(first.identity, first, sent)
    return wait(first, until, stored)
  }

  /**
   * Answers a retry of a request that the log has, or lets it wait while the request waits for its claims.
   * @param first the request as the log has it
   * @throws HenceError `request-id-reused` (change)
   */
  replay(
    identity: Identity,
    first: SentMessage,
    sent: SentMessage,
    stored: DecidedOutcome,
    until: Until,
  ): Promise<Reply | Enqueued> | Reply | Enqueued {
    checkSame(identity, first, sent)
    if (stored.outcome !== undefined) return this.#answer(identity, stored, stored.outcome, true, until)
    let entry = this.#inFlight.get(identity)
    if (entry === undefined) {
      entry = { identity, type: first.type, input: first.input, bytes: 0, waiters: [], stored }
      this.#inFlight.set(identity, entry)
    }
    return wait(entry, until, stored)
  }

  /** Answers the senders of a request that was applied: all of them if it is decided. */
  decided(identity: Identity, stored: DecidedOutcome): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    const { outcome } = stored
    if (outcome === undefined) {
      entry.waitsAt = stored
      for (const { until, resolve } of entry.waiters)
        if (until === 'durable') resolve(enqueuedAt(identity, stored))
      return
    }
    this.#leave(entry)
    for (const [i, { until, resolve }] of entry.waiters.entries()) {
      resolve(this.#answer(identity, stored, outcome, i > 0 || entry.stored !== undefined, until))
    }
  }

  /**
   * An append failed: rejects the senders of its request with a retryable error, and keeps the id until it is
   * known whether the log has the request, so that a retry cannot be appended meanwhile.
   */
  uncertain(identity: Identity, error: HenceError): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    for (const waiter of entry.waiters.splice(0)) waiter.reject(error)
    entry.certain = new Promise((resolve) => {
      entry.setCertain = resolve
    })
  }

  /**
   * Answers those who wait for claims of a request that is in the log, while these cannot be judged. A retry
   * waits again.
   * @param isStalled whether anything is held up: then those are answered who have waited since the last call
   * @returns whether anybody waits for claims
   */
  answerWaiting(isStalled: boolean): boolean {
    let anybody = false
    for (const { identity, waiters, stored, waitsAt = stored } of this.#inFlight.values()) {
      if (waitsAt === undefined) continue
      anybody = true
      if (!isStalled) continue
      for (const waiter of waiters.splice(0)) {
        if (waiter.isLate) waiter.reject(undecided(enqueuedAt(identity, waitsAt)))
        else waiters.push(Object.assign(waiter, { isLate: true }))
      }
    }
    return anybody
  }

  /** A request that was admitted is not appended: rejects its senders. */
  refuse(identity: Identity, error: HenceError): void {
    const entry = this.#inFlight.get(identity)
    if (entry === undefined) return
    this.#leave(entry)
    for (const waiter of entry.waiters) waiter.reject(error)
  }

  /** The log was read again: a request that it lacks may now be sent anew. */
  certain(identity: Identity): void {
    const entry = this.#inFlight.get(identity)
    if (entry) this.#leave(entry)
  }

  /** Rejects all senders. */
  abandon(error: HenceError): void {
    for (const identity of this.#inFlight.keys()) this.refuse(identity, error)
  }

  #answer(
    identity: Identity,
    stored: DecidedOutcome,
    outcome: Outcome,
    replayed: boolean,
    until: Until,
  ): Reply | Enqueued {
    this.replies[replayed ? 'replayed' : outcome.status]++
    const enqueued = enqueuedAt(identity, stored)
    if (until === 'durable') return enqueued
    const { corrected } = stored
    return { ...outcome, ...enqueued, replayed, ...(corrected && { corrected }) }
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

/** @param stored where the log has the request; undefined while it is being appended */
function wait(entry: InFlight, until: Until, stored?: DecidedOutcome): Promise<Reply | Enqueued> {
  return new Promise((resolve, reject) => {
    entry.waiters.push({ until, resolve, reject })
    if (stored !== undefined && until === 'durable') resolve(enqueuedAt(entry.identity, stored))
  })
}

const undecided = ({ requestId, token }: Enqueued) =>
  retryError(
    'not-decided-yet',
    `The request ${JSON.stringify(requestId)} is in the log, at ${token}, and waits for claims that cannot be judged at ` +
      'present, since a partition cannot be written. Send the same request again for its outcome, or read its story.',
  )

function checkSame(identity: Identity, first: SentMessage, sent: SentMessage): void {
  if (sameMessage(first, sent)) return
  throw changeError(
    'request-id-reused',
    `The request id ${requestIdOf(identity)} was sent before with other content, as "${first.type}". ` +
      'Nothing was changed: a new request needs a new id, and a retry must send the same input.',
  )
}

function enqueuedAt(identity: Identity, { partition, offset }: DecidedOutcome): Enqueued {
  return { requestId: requestIdOf(identity), token: `${partition}:${offset}` }
}
