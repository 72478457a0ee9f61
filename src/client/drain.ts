import type { Reply } from '../app/index.ts'
import { pause } from '../clock.ts'
import { changeError, HenceError, retryError, thrownText } from '../failure.ts'
import { sameMessage } from '../same-message.ts'
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

export type Drain = Awaited<ReturnType<typeof startDrain>>

/**
 * Empties an outbox: sends each stored request until it is decided, queue by queue. Within a queue a request
 * is sent only after the one ahead of it is decided; queues do not wait for each other, up to a bound.
 */
export async function startDrain(options: DrainOptions) {
  const { outbox, clock, exchange, isFinal, newId, expired, tell } = options
  const { others } = outbox
  const storing = new Set<Promise<void>>()
  const turns = new Turns(options.parallel)
  const open = new Map<string, OpenRequest>()
  const lanes = new Map<string, Lane>()
  const closing = new AbortController()
  const { signal } = closing

  async function store(request: OpenRequest): Promise<void> {
    const { queue, requestId } = request.stored
    // A request that is sent next is stored as sent, with no write of its own. One behind another whose tries
    // fail may wait for long.
    const isHeldUp = lanes.get(queue)?.requests[0]?.problem !== undefined
    if (isHeldUp && outbox.replace) request.stored = { ...request.stored, unsent: true }
    try {
      await outbox.add(request.stored)
    } catch (error) {
      open.delete(requestId)
      for (const waiter of request.waiters) waiter.reject(notStored(error))
      return
    }
    others?.tell({ kind: 'stored', request: request.stored })
    line(request)
  }

  /** Adds a request that another page or an earlier process stored, or learns that it was sent there. */
  function adopt(stored: StoredRequest): void {
    const known = open.get(stored.requestId)
    if (known?.stored.unsent && !stored.unsent) {
      known.stored = stored
      known.perhapsTaken = true
    }
    if (known) return
    const request = opened(stored, { perhapsTaken: !stored.unsent, waiters: [] })
    open.set(stored.requestId, request)
    line(request)
  }

  function line(request: OpenRequest): void {
    const { queue } = request.stored
    let lane = lanes.get(queue)
    if (lane === undefined) {
      lane = { name: queue, requests: [], running: undefined, wake: undefined }
      lanes.set(queue, lane)
    }
    lane.requests.push(request)
    lane.running ??= run(lane)
    tell('pending', request)
  }

  async function run(lane: Lane): Promise<void> {
    // Begins in a later microtask, after `running` is set.
    await undefined
    for (let failures = 0; lane.requests.length > 0 && !signal.aborted; ) {
      try {
        if (others === undefined) await empty(lane)
        else {
          await others.alone(lane.name, signal, async () => {
            await compare(lane)
            await empty(lane)
          })
        }
        failures = 0
      } catch {
        // The outbox did not answer. Keep the known requests and ask again.
        await pause(clock, pauseMs(options, ++failures), signal)
      }
    }
    lane.running = undefined
    if (lane.requests.length === 0) lanes.delete(lane.name)
  }

  /**
   * Another client may have emptied this queue, or added to it, while this one waited for its turn. A request
   * that the other decided is dropped, unless a caller waits here: then it is sent again to get the outcome.
   */
  async function compare(lane: Lane): Promise<void> {
    const stored = (await outbox.list()).filter(({ queue }) => queue === lane.name)
    const order = new Map(stored.map(({ requestId }, i) => [requestId, i]))
    for (const request of [...lane.requests]) {
      if (!order.has(request.stored.requestId) && request.waiters.length === 0) drop(lane, request)
    }
    for (const each of stored) adopt(each)
    const place = ({ stored: { requestId } }: OpenRequest) => order.get(requestId) ?? -1
    lane.requests.sort((a, b) => place(a) - place(b))
  }

  async function empty(lane: Lane): Promise<void> {
    while (lane.requests.length > 0 && !signal.aborted) await send(lane, lane.requests[0]!)
  }

  /** Tries until the request is decided, here or by another client, or until this client closes. */
  async function send(lane: Lane, request: OpenRequest): Promise<void> {
    while (open.has(request.stored.requestId) && !signal.aborted) {
      const { requestId } = request.stored
      await turns.take()
      let tried: Tried<Reply>
      try {
        if (signal.aborted) return
        if (request.stored.unsent) {
          const { unsent: _, ...stored } = request.stored
          await outbox.replace?.(stored)
          request.stored = stored
        }
        const read = (id: string, answer: HttpAnswer) => verdictOf(id, answer, isFinal)
        tried = await trySubmission(exchange, request.stored, read, { now: clock.now(), signal })
      } finally {
        turns.ended()
      }
      if (signal.aborted || !open.has(requestId)) return
      request.attempts++
      if (tried.kind === 'done') await settle(lane, request, { reply: tried.result })
      else if (tried.kind === 'again') await wait(lane, request, tried)
      else await refused(lane, request, tried)
    }
  }

  async function refused(
    lane: Lane,
    request: OpenRequest,
    { error: refusal, blind }: Extract<Tried<Reply>, { readonly kind: 'refused' }>,
  ): Promise<void> {
    const { requestId } = request.stored
    const isUnknown = blind && request.perhapsTaken
    const error = isUnknown ? outcomeUnknown(requestId, refusal) : refusal
    const hasExpired = refusal.code === 'request-id-expired' && isUuid7.test(requestId) && !request.renewed
    const choice = hasExpired ? (isUnknown ? expired(request) : 'anew') : 'drop'
    if (choice === 'anew') await renew(request)
    else if (choice === 'keep')
      await wait(lane, request, { kind: 'again', error: outcomeUnknown(requestId, refusal), taken: 'no' })
    else await settle(lane, request, { error })
  }

  /** Stores a request under a new id, by the time of the server, and then forgets the old one. */
  async function renew(request: OpenRequest): Promise<void> {
    const { requestId: old } = request.stored
    const stored = { ...request.stored, requestId: newId() }
    await outbox.add(stored)
    open.delete(old)
    Object.assign(request, { stored, perhapsTaken: false, renewed: true })
    open.set(stored.requestId, request)
    others?.tell({ kind: 'stored', request: stored })
    tell('pending', request)
    await outbox.remove(old)
  }

  async function wait(
    lane: Lane,
    request: OpenRequest,
    { error, taken, askedMs }: Extract<Tried<Reply>, { readonly kind: 'again' }>,
  ): Promise<void> {
    request.problem = error
    request.perhapsTaken ||= taken !== 'no'
    const inMs = pauseMs(options, request.attempts, askedMs)
    const wake = new AbortController()
    // Listeners can call `retry` at once, which ends the pause before it begins.
    lane.wake = wake
    tell('retrying', request, { inMs })
    const needsSomebody = error.advice !== 'retry' || request.attempts >= triesUntilStuck
    if (needsSomebody && !request.stuck) {
      request.stuck = true
      tell('stuck', request)
    }
    await pause(clock, inMs, wake.signal)
    lane.wake = undefined
  }

  async function settle(lane: Lane, request: OpenRequest, told: Told): Promise<void> {
    answer(lane, request, told)
    const { stored } = request
    others?.tell({ kind: 'settled', request: stored, ...newsOf(told) })
    try {
      await outbox.remove(stored.requestId)
    } catch {
      // The next client on this outbox sends it once more and gets the same outcome.
    }
  }

  function answer(lane: Lane | undefined, request: OpenRequest, told: Told): void {
    if (lane) drop(lane, request)
    for (const waiter of request.waiters.splice(0)) {
      if ('reply' in told) waiter.resolve(told.reply)
      else waiter.reject(told.error)
    }
    tell('reply' in told ? 'decided' : 'refused', request, told)
  }

  function drop(lane: Lane, request: OpenRequest): void {
    open.delete(request.stored.requestId)
    const place = lane.requests.indexOf(request)
    if (place >= 0) lane.requests.splice(place, 1)
  }

  function hear(news: News): void {
    if (signal.aborted) return
    if (news.kind === 'stored') {
      adopt(news.request)
      return
    }
    // Emit it also for a request that is not open here: it may have been dropped just before.
    const { requestId, queue } = news.request
    const request = open.get(requestId) ?? opened(news.request, { perhapsTaken: true, waiters: [] })
    const lane = lanes.get(queue)
    answer(lane, request, toldBy(news))
    lane?.wake?.abort()
  }

  /** Ends every pause between tries. */
  const retry = (): void => {
    for (const lane of lanes.values()) lane.wake?.abort()
  }

  others?.hear(hear)
  for (const stored of await outbox.list()) adopt(stored)
  return {
    /** Stores a request and sends it; resolves when it is decided. */
    submit(stored: StoredRequest): Promise<Reply> {
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(closed())
        const waiter = { resolve, reject }
        const known = open.get(stored.requestId)
        if (known) {
          if (sameMessage(known.stored, stored)) known.waiters.push(waiter)
          else reject(reused(known.stored))
          return
        }
        const request = opened(stored, { perhapsTaken: false, waiters: [waiter] })
        open.set(stored.requestId, request)
        const stores = store(request).finally(() => storing.delete(stores))
        storing.add(stores)
      })
    },
    /** The requests that are stored and undecided, oldest first in a queue, once those under way are. */
    async pending(): Promise<OpenRequest[]> {
      await Promise.all(storing)
      return [...lanes.values()].flatMap(({ requests }) => requests)
    },
    retry,
    /** Stops sending. Undecided requests stay stored, and pending `submit` calls reject. */
    async close(): Promise<void> {
      closing.abort()
      retry()
      for (const { waiters } of open.values()) {
        for (const waiter of waiters.splice(0)) waiter.reject(closed())
      }
      await Promise.all([...lanes.values()].map(({ running }) => running))
      await outbox.close()
    },
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
    `The request could not be stored, so it was not sent: ${thrownText(cause)}. Make room, or let the page store ` +
      'data, and try again.',
    { cause },
  )
}
