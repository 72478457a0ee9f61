import type { Enqueued, Outcome, Reply } from '../app/index.ts'
import { assert } from '../assert.ts'
import type { DecidedOutcome, StoredOutcome } from '../derivation/stored-outcome.ts'
import { changeError, type HenceError, retryError } from '../failure.ts'
import { type Identity, requestIdOf } from '../identity.ts'
import { encodeRequest } from '../log/record.ts'
import { type SentMessage, sameMessage } from '../same-message.ts'
import { CellMap, hashOf } from '../state/cell-map.ts'
import type { AdmittedRequest } from './message.ts'
import type { OutgoingRecord } from './writer.ts'

/** A sender waits until its request is durable (`enqueue`), or until it is decided (`submit`). */
export type Until = 'durable' | 'decided'

/** A request between its admission and its outcome. */
interface InFlight extends SentMessage {
  readonly key: Identity
  readonly hash: number
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

interface Bounds {
  /** Of undecided requests, and of events in memory. */
  readonly queueBytesMax: number
  /** Of all events that wait. */
  readonly waitingBytesMax: number
}

/** The undecided requests and their senders: bounds their bytes; every retry waits beside the first. */
export class Admission {
  readonly #bounds: Bounds
  readonly #storedOutcome: (identity: Identity) => StoredOutcome | undefined
  /** No `Map`, where V8 would look each identity up in its table of strings, and keep it there. */
  readonly #inFlight = new CellMap<InFlight>()
  #queuedBytes = 0
  /** Replies since the start. */
  readonly replies = { accepted: 0, rejected: 0, failed: 0, replayed: 0 }

  /** @param storedOutcome returns what the live generation has derived for an identity */
  constructor(bounds: Bounds, storedOutcome: (identity: Identity) => StoredOutcome | undefined) {
    this.#bounds = bounds
    this.#storedOutcome = storedOutcome
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Finds whether a request is a retry: of one under way (`first`), one in the log (`stored`), or both. */
  sentBefore(identity: Identity): SentBefore {
    return { first: this.#find(identity), stored: this.#storedOutcome(identity) }
  }

  has(identity: Identity): boolean {
    return this.#find(identity) !== undefined
  }

  /**
   * Admits a request that was not sent before: returns the record to append.
   * @param events the bytes of the events that wait, and of those of them in memory
   */
  admit(
    identity: Identity,
    message: AdmittedRequest,
    sender: WaitingSender,
    events: { readonly bytes: number; readonly heldBytes: number },
  ): OutgoingRecord {
    const { type, version, input, output, parsed, inReplyTo } = message
    const bytes = encodeRequest(identity, type, input, output, version, inReplyTo)
    const { queueBytesMax, waitingBytesMax } = this.#bounds
    const waiting = this.#queuedBytes + events.heldBytes
    if (waiting + bytes.length > queueBytesMax && waiting > 0)
      throw overloaded(
        `${this.#inFlight.size} requests with ${this.#queuedBytes} bytes are waiting, and ${events.heldBytes} bytes of events, ` +
          `and the limit is ${queueBytesMax} bytes`,
      )
    if (events.bytes > waitingBytesMax)
      throw overloaded(
        `${events.bytes} bytes of events wait for partitions that have not been written, and the limit is ` +
          `${waitingBytesMax} bytes`,
      )
    this.#queuedBytes += bytes.length
    const hash = hashOf(identity)
    this.#inFlight.add({ key: identity, hash, type, input, bytes: bytes.length, waiters: [sender] })
    const reply = inReplyTo !== undefined && { inReplyTo }
    return { record: { kind: 'request', identity, type, version, input, output, ...reply, parsed }, bytes }
  }

  /** Lets a retry wait beside the first sender of a request, in the log (`stored`) or on its way there. */
  join(
    first: InFlight,
    sent: SentMessage,
    stored: DecidedOutcome | undefined,
    until: Until,
  ): Promise<Reply | Enqueued> {
    checkSame(first.key, first, sent)
    return wait(first, until, stored)
  }

  /** Answers a retry of a request in the log (`first`), or lets it wait while that waits for its claims. */
  replay(
    identity: Identity,
    first: SentMessage,
    sent: SentMessage,
    stored: DecidedOutcome,
    until: Until,
  ): Promise<Reply | Enqueued> | Reply | Enqueued {
    checkSame(identity, first, sent)
    if (stored.outcome !== undefined) return this.#answer(identity, stored, stored.outcome, true, until)
    let entry = this.#find(identity)
    if (entry === undefined) {
      const { type, input } = first
      entry = { key: identity, hash: hashOf(identity), type, input, bytes: 0, waiters: [], stored }
      this.#inFlight.add(entry)
    }
    return wait(entry, until, stored)
  }

  /** Answers the senders of a request that was applied: all of them if it is decided. */
  decided(identity: Identity, stored: DecidedOutcome): void {
    const entry = this.#find(identity)
    if (entry === undefined) return
    const { outcome } = stored
    if (outcome === undefined) {
      entry.waitsAt = stored
      for (const { until, resolve } of entry.waiters)
        if (until === 'durable') resolve(enqueuedAt(identity, stored))
      return
    }
    this.#leave(entry)
    const { waiters } = entry
    for (let i = 0; i < waiters.length; i++) {
      const { until, resolve } = waiters[i]!
      resolve(this.#answer(identity, stored, outcome, i > 0 || entry.stored !== undefined, until))
    }
  }

  /** An append failed: keeps the id until it is known whether the log has it, so that no retry is appended. */
  uncertain(identity: Identity, error: HenceError): void {
    const entry = this.#find(identity)
    if (entry === undefined) return
    for (const waiter of entry.waiters.splice(0)) waiter.reject(error)
    entry.certain = new Promise((resolve) => {
      entry.setCertain = resolve
    })
  }

  /**
   * Answers those who wait for claims that cannot be judged; returns whether anybody waits for claims.
   * @param why what holds them up: then those are answered who have waited since the last call
   */
  answerWaiting(why: string | undefined): boolean {
    let anybody = false
    for (const { key, waiters, stored, waitsAt = stored } of this.#inFlight.all()) {
      if (waitsAt === undefined) continue
      anybody = true
      if (why === undefined) continue
      for (const waiter of waiters.splice(0)) {
        if (waiter.isLate) waiter.reject(undecided(enqueuedAt(key, waitsAt), why))
        else waiters.push(Object.assign(waiter, { isLate: true }))
      }
    }
    return anybody
  }

  /** A request that was admitted is not appended: rejects its senders. */
  refuse(identity: Identity, error: HenceError): void {
    const entry = this.#find(identity)
    if (entry === undefined) return
    this.#leave(entry)
    for (const waiter of entry.waiters) waiter.reject(error)
  }

  /** The log was read again: a request that it lacks may now be sent anew. */
  certain(identity: Identity): void {
    const entry = this.#find(identity)
    if (entry) this.#leave(entry)
  }

  /** Rejects all senders. */
  abandon(error: HenceError): void {
    for (const { key } of this.#inFlight.all()) this.refuse(key, error)
  }

  #answer(
    identity: Identity,
    stored: DecidedOutcome,
    outcome: Outcome,
    replayed: boolean,
    until: Until,
  ): Reply | Enqueued {
    this.replies[replayed ? 'replayed' : outcome.status]++
    if (until === 'durable') return enqueuedAt(identity, stored)
    const { partition, offset, corrected } = stored
    // As `enqueuedAt`; each further `...` would cost more than all fields together.
    const token = `${partition}:${offset}`
    const reply = { ...outcome, requestId: requestIdOf(identity), token, replayed }
    return corrected === undefined ? reply : { ...reply, corrected }
  }

  #find(identity: Identity): InFlight | undefined {
    return this.#inFlight.get(identity, hashOf(identity))
  }

  #leave(entry: InFlight): void {
    this.#inFlight.remove(entry)
    this.#queuedBytes -= entry.bytes
    const bytes = this.#queuedBytes
    assert(bytes >= 0, 'requests leave the queue with the bytes they entered with', bytes)
    entry.setCertain?.()
  }
}

/** @param stored where the log has the request; undefined while it is being appended */
function wait(entry: InFlight, until: Until, stored?: DecidedOutcome): Promise<Reply | Enqueued> {
  return new Promise((resolve, reject) => {
    entry.waiters.push({ until, resolve, reject })
    if (stored !== undefined && until === 'durable') resolve(enqueuedAt(entry.key, stored))
  })
}

const overloaded = (why: string) =>
  retryError('overloaded', `${why}. Nothing was written: send the same request again later.`)

const undecided = ({ requestId, token }: Enqueued, why: string) =>
  retryError(
    'not-decided-yet',
    `The request ${JSON.stringify(requestId)} is in the log, at ${token}, and waits for claims that cannot be judged at ` +
      `present, since ${why}. Send the same request again for its outcome, or read its story.`,
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
