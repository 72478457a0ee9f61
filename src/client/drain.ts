import canonicalize from 'canonicalize'
import type { Reply } from '../app/index.ts'
import { pause } from '../clock.ts'
import { changeError, HenceError, retryError } from '../failure.ts'
import { type Asking, pauseMs } from './backoff.ts'
import { closed, type HttpAnswer } from './exchange.ts'
import type { News, OpenOutbox, StoredRequest } from './outbox.ts'
import { type Tried, trySubmission } from './submission.ts'
import { Turns } from './turns.ts'
import { outcomeUnknown, type Refused, verdictOf } from './verdict.ts'

export interface OpenRequest {
  stored: StoredRequest
  attempts: number
  problem: HenceError | undefined
  /** Whether an earlier try may have been accepted even though no answer arrived. */
  perhapsTaken: boolean
  /** Set once it has a new id, because the first had expired. */
  renewed: boolean
  /** Set once `stuck` was emitted for it. */
  stuck: boolean
  readonly waiters: Waiter[]
}

interface Waiter {
  resolve(reply: Reply): void
  reject(error: HenceError): void
}

/** `keep` stores it on, and its queue waits; `anew` sends it under a new id; `drop` rejects it. */
export type ExpiredChoice = 'keep' | 'anew' | 'drop'

type DrainEvent = 'pending' | 'decided' | 'refused' | 'retrying' | 'stuck'

interface DrainOptions extends Asking {
  readonly outbox: OpenOutbox
  readonly parallel: number
  /** Emits an event of the client. */
  readonly tell: (event: DrainEvent, request: OpenRequest, more?: Told | { readonly inMs: number }) => void
  readonly isFinal: ((refused: Refused) => boolean | undefined) | undefined
  readonly newId: () => string
  /** Decides about a request that may have been taken, and whose id has expired. */
  readonly expired: (request: OpenRequest) => ExpiredChoice
}

/** The requests of one queue, oldest first. */
interface Lane {
  readonly name: string
  readonly requests: OpenRequest[]
  running: Promise<void> | undefined
  /** Ends the pause before the next try. */
  wake: AbortController | undefined
}

/** Only such an id has a time, by which it can expire. */
const isUuid7 = /^.{14}7.{21}$/

/** After this many tries a request counts as stuck. */
const triesUntilStuck = 10

/**
 * Empties an outbox: sends each stored request until it is decided, queue by queue. Within a queue a request
 * is sent only after the one ahead of it is decided; queues do not wait for each other, up to a bound.
 */
export class Drain {
  readonly #options: DrainOptions
  readonly #storing = new Set<Promise<void>>()
  readonly #turns: Turns
  readonly #open = new Map<string, OpenRequest>()
  readonly #lanes = new Map<string, Lane>()
  readonly #closing = new AbortController()

  static async start(options: DrainOptions): Promise<Drain> {
    const drain = new Drain(options)
    options.outbox.others?.hear((news) => drain.#hear(news))
    for (const stored of await options.outbox.list()) drain.#adopt(stored)
    return drain
  }

  private constructor(options: DrainOptions) {
    this.#options = options
    this.#turns = new Turns(options.parallel)
  }

  /** Stores a request and sends it; resolves when it is decided. */
  submit(stored: StoredRequest): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#closing.signal.aborted) return reject(closed())
      const waiter = { resolve, reject }
      const known = this.#open.get(stored.requestId)
      if (known) {
        if (same(known.stored, stored)) known.waiters.push(waiter)
        else reject(reused(known.stored))
        return
      }
      const request = opened(stored, { perhapsTaken: false, waiters: [waiter] })
      this.#open.set(stored.requestId, request)
      const storing = this.#store(request).finally(() => this.#storing.delete(storing))
      this.#storing.add(storing)
    })
  }

  /** The requests that are stored and undecided, oldest first in a queue, once those under way are. */
  async pending(): Promise<OpenRequest[]> {
    await Promise.all(this.#storing)
    return [...this.#lanes.values()].flatMap(({ requests }) => requests)
  }

  /** Ends every pause between tries. */
  retry(): void {
    for (const lane of this.#lanes.values()) lane.wake?.abort()
  }

  /** Stops sending. Undecided requests stay stored, and pending `submit` calls reject. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.retry()
    for (const { waiters } of this.#open.values()) {
      for (const waiter of waiters.splice(0)) waiter.reject(closed())
    }
    await Promise.all([...this.#lanes.values()].map(({ running }) => running))
    await this.#options.outbox.close()
  }

  async #store(request: OpenRequest): Promise<void> {
    const { outbox } = this.#options
    // A request that is sent next is stored as sent, with no write of its own. One behind another whose tries
    // fail may wait for long.
    const isHeldUp = this.#lanes.get(request.stored.queue)?.requests[0]?.problem !== undefined
    if (isHeldUp && outbox.replace) request.stored = { ...request.stored, unsent: true }
    try {
      await outbox.add(request.stored)
    } catch (error) {
      this.#open.delete(request.stored.requestId)
      for (const waiter of request.waiters) waiter.reject(notStored(error))
      return
    }
    this.#options.outbox.others?.tell({ kind: 'stored', request: request.stored })
    this.#line(request)
  }

  /** Adds a request that another page or an earlier process stored, or learns that it was sent there. */
  #adopt(stored: StoredRequest): void {
    const known = this.#open.get(stored.requestId)
    if (known?.stored.unsent && !stored.unsent) {
      known.stored = stored
      known.perhapsTaken = true
    }
    if (known) return
    const request = opened(stored, { perhapsTaken: !stored.unsent, waiters: [] })
    this.#open.set(stored.requestId, request)
    this.#line(request)
  }

  #line(request: OpenRequest): void {
    const { queue } = request.stored
    let lane = this.#lanes.get(queue)
    if (lane === undefined) {
      lane = { name: queue, requests: [], running: undefined, wake: undefined }
      this.#lanes.set(queue, lane)
    }
    lane.requests.push(request)
    lane.running ??= this.#run(lane)
    this.#options.tell('pending', request)
  }

  async #run(lane: Lane): Promise<void> {
    const { signal } = this.#closing
    const others = this.#options.outbox.others
    // Begins in a later microtask, after `running` is set.
    await undefined
    for (let failures = 0; lane.requests.length > 0 && !signal.aborted; ) {
      try {
        if (others === undefined) await this.#empty(lane)
        else {
          await others.alone(lane.name, signal, async () => {
            await this.#compare(lane)
            await this.#empty(lane)
          })
        }
        failures = 0
      } catch {
        // The outbox did not answer. Keep the known requests and ask again.
        await pause(this.#options.clock, pauseMs(this.#options, ++failures), signal)
      }
    }
    lane.running = undefined
    if (lane.requests.length === 0) this.#lanes.delete(lane.name)
  }

  /**
   * Another client may have emptied this queue, or added to it, while this one waited for its turn. A request
   * that the other decided is dropped, unless a caller still waits here: then it is sent again to get the
   * outcome.
   */
  async #compare(lane: Lane): Promise<void> {
    const stored = (await this.#options.outbox.list()).filter(({ queue }) => queue === lane.name)
    const order = new Map(stored.map(({ requestId }, i) => [requestId, i]))
    for (const request of [...lane.requests]) {
      if (!order.has(request.stored.requestId) && request.waiters.length === 0) this.#drop(lane, request)
    }
    for (const each of stored) this.#adopt(each)
    const place = ({ stored: { requestId } }: OpenRequest) => order.get(requestId) ?? -1
    lane.requests.sort((a, b) => place(a) - place(b))
  }

  async #empty(lane: Lane): Promise<void> {
    for (;;) {
      const [first] = lane.requests
      if (first === undefined || this.#closing.signal.aborted) return
      await this.#send(lane, first)
    }
  }

  /** Tries until the request is decided, here or by another client, or until this client closes. */
  async #send(lane: Lane, request: OpenRequest): Promise<void> {
    const { signal } = this.#closing
    while (this.#open.has(request.stored.requestId) && !signal.aborted) {
      const { requestId } = request.stored
      await this.#turns.take()
      let tried: Tried<Reply>
      try {
        if (signal.aborted) return
        if (request.stored.unsent) {
          const { unsent: _, ...stored } = request.stored
          await this.#options.outbox.replace?.(stored)
          request.stored = stored
        }
        const read = (id: string, answer: HttpAnswer) => verdictOf(id, answer, this.#options.isFinal)
        const now = this.#options.clock.now()
        tried = await trySubmission(this.#options.exchange, request.stored, read, { now, signal })
      } finally {
        this.#turns.ended()
      }
      if (signal.aborted || !this.#open.has(requestId)) return
      request.attempts++
      if (tried.kind === 'done') {
        await this.#settle(lane, request, { reply: tried.result })
      } else if (tried.kind === 'refused') {
        const unknown = tried.blind && request.perhapsTaken
        if (tried.error.code === 'request-id-expired' && isUuid7.test(requestId) && !request.renewed) {
          const choice = unknown ? this.#options.expired(request) : 'anew'
          if (choice === 'anew') {
            await this.#renew(request)
            continue
          }
          if (choice === 'keep') {
            await this.#wait(lane, request, {
              kind: 'again',
              error: outcomeUnknown(requestId, tried.error),
              taken: 'no',
            })
            continue
          }
        }
        await this.#settle(lane, request, {
          error: unknown ? outcomeUnknown(requestId, tried.error) : tried.error,
        })
      } else {
        await this.#wait(lane, request, tried)
      }
    }
  }

  /** Stores a request under a new id, by the time of the server, and then forgets the old one. */
  async #renew(request: OpenRequest): Promise<void> {
    const { requestId: old } = request.stored
    const stored = { ...request.stored, requestId: this.#options.newId() }
    await this.#options.outbox.add(stored)
    this.#open.delete(old)
    request.stored = stored
    request.perhapsTaken = false
    request.renewed = true
    this.#open.set(stored.requestId, request)
    this.#options.outbox.others?.tell({ kind: 'stored', request: stored })
    this.#options.tell('pending', request)
    await this.#options.outbox.remove(old)
  }

  async #wait(
    lane: Lane,
    request: OpenRequest,
    tried: Extract<Tried<Reply>, { readonly kind: 'again' }>,
  ): Promise<void> {
    request.problem = tried.error
    request.perhapsTaken ||= tried.taken !== 'no'
    const inMs = pauseMs(this.#options, request.attempts, tried.askedMs)
    const wake = new AbortController()
    // Listeners can call `retry` at once, which ends the pause before it begins.
    lane.wake = wake
    this.#options.tell('retrying', request, { inMs })
    const needsSomebody = tried.error.advice !== 'retry' || request.attempts >= triesUntilStuck
    if (needsSomebody && !request.stuck) {
      request.stuck = true
      this.#options.tell('stuck', request)
    }
    await pause(this.#options.clock, inMs, wake.signal)
    lane.wake = undefined
  }

  async #settle(lane: Lane, request: OpenRequest, told: Told): Promise<void> {
    this.#tell(lane, request, told)
    const { stored } = request
    this.#options.outbox.others?.tell({ kind: 'settled', request: stored, ...newsOf(told) })
    try {
      await this.#options.outbox.remove(stored.requestId)
    } catch {
      // The next client on this outbox sends it once more and gets the same outcome.
    }
  }

  #tell(lane: Lane | undefined, request: OpenRequest, told: Told): void {
    if (lane) this.#drop(lane, request)
    for (const waiter of request.waiters.splice(0)) {
      if ('reply' in told) waiter.resolve(told.reply)
      else waiter.reject(told.error)
    }
    this.#options.tell('reply' in told ? 'decided' : 'refused', request, told)
  }

  #drop(lane: Lane, request: OpenRequest): void {
    this.#open.delete(request.stored.requestId)
    const place = lane.requests.indexOf(request)
    if (place >= 0) lane.requests.splice(place, 1)
  }

  #hear(news: News): void {
    if (this.#closing.signal.aborted) return
    if (news.kind === 'stored') {
      this.#adopt(news.request)
      return
    }
    // Emit it also for a request that is not open here: it may have been dropped just before.
    const { requestId, queue } = news.request
    const request = this.#open.get(requestId) ?? opened(news.request, { perhapsTaken: true, waiters: [] })
    const lane = this.#lanes.get(queue)
    this.#tell(lane, request, toldBy(news))
    lane?.wake?.abort()
  }
}

type Told = { readonly reply: Reply } | { readonly error: HenceError }

function newsOf(told: Told): Pick<Extract<News, { kind: 'settled' }>, 'reply' | 'refusal'> {
  if ('reply' in told) return { reply: told.reply }
  const { code, advice, message } = told.error
  return { refusal: { code, advice, message } }
}

function toldBy({ reply, refusal }: Extract<News, { kind: 'settled' }>): Told {
  if (refusal === undefined) return { reply: reply as Reply }
  return { error: new HenceError(refusal.code, refusal.advice, refusal.message) }
}

function opened(stored: StoredRequest, more: Pick<OpenRequest, 'perhapsTaken' | 'waiters'>): OpenRequest {
  return { stored, attempts: 0, problem: undefined, stuck: false, renewed: false, ...more }
}

function same(a: StoredRequest, b: StoredRequest): boolean {
  if (a.type !== b.type) return false
  return a.input === b.input || canonicalize(JSON.parse(a.input)) === canonicalize(JSON.parse(b.input))
}

const reused = ({ requestId, type }: StoredRequest) =>
  changeError(
    'request-id-reused',
    `The request id ${requestId} is that of a request "${type}" which is on its way, with another content: ` +
      'a new request needs a new id.',
  )

function notStored(cause: unknown): HenceError {
  if (cause instanceof HenceError) return cause
  return retryError(
    'outbox-failed',
    `The request could not be stored, so it was not sent: ${cause instanceof Error ? cause.message : cause}. ` +
      'Make room, or let the page store data, and try again.',
    { cause },
  )
}
