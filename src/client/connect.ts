import type { App, Service, TableChange } from '../app/index.ts'
import type { SendOptions } from '../app/service.ts'
import { type Clock, pause, systemClock } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import { checkRequestId } from '../identity.ts'
import { type Backoff, pauseMs } from './backoff.ts'
import { closed, Exchange, type ExchangeOptions, type HeaderFields, type HttpAnswer } from './exchange.ts'
import { jsonText } from './json-text.ts'
import { Reading, tokensOf } from './reading.ts'
import { trySubmission } from './submission.ts'
import { subscribe } from './subscription.ts'
import { enqueuedOf, outcomeUnknown, type Verdict, verdictOf } from './verdict.ts'

export interface ConnectOptions extends Omit<ExchangeOptions, 'url'> {
  /** How long a call is retried while nothing is decided, in milliseconds. Default 30,000. */
  readonly patienceMs?: number
  /** How long to wait between tries. Default: up to 50 ms after the first, doubling up to 5 s. */
  readonly backoff?: Backoff
  readonly clock?: Clock
  /** Numbers in [0, 1) for the jitter of pauses. */
  readonly random?: () => number
}

/** The interface of the engine, for other processes than the one that runs it. */
export interface Connection<A extends App> extends Service<A> {
  /**
   * Calls back with every changed row that this caller may read, from the moment the stream is open, and
   * across lost connections. Changes are missed if this process cannot reach the server for longer than
   * changes are kept; a `client`'s subscription reports that.
   * @param ended called when it cannot go on
   */
  subscribe(
    listener: (changes: readonly TableChange[]) => void,
    ended?: (error: HenceError) => void,
  ): () => void
}

/**
 * Connects to a Hence server: `connect<typeof shop>('http://localhost:4400/hence', { key })`. For processes
 * that receive a request and its id from a caller who keeps them: nothing is stored here. A call is retried
 * until it is decided or `patienceMs` has passed; then the last error is thrown, and the caller can send the
 * same id again.
 *
 * @throws HenceError `option-invalid` (change). Its calls throw the engine's errors, and
 * - `retry`: `server-unreachable`, `answer-not-understood`, `client-closed`
 * - `operator`: `outcome-unknown`, when an earlier try may have been accepted and the server refuses to say
 */
export function connect<A extends App>(
  url: string | readonly string[],
  options: ConnectOptions = {},
): Connection<A> {
  const { clock = systemClock, random = Math.random, patienceMs = 30_000 } = options
  // Of several processes another one may be active in a moment.
  const backoff = options.backoff ?? { firstMs: 50, mostMs: typeof url === 'string' ? 5_000 : 500 }
  const exchange = new Exchange({ ...options, url })
  const closing = new AbortController()
  const { signal } = closing
  const asking = { exchange, backoff, clock, random, closing: signal }
  const reading = new Reading({ ...asking, patienceMs })

  /** Sends a request until an answer decides something. */
  const send = async <Result>(
    type: string,
    input: unknown,
    { requestId, inReplyTo }: SendOptions,
    read: (requestId: string, answer: HttpAnswer) => Verdict<Result>,
    headers: HeaderFields = {},
  ): Promise<Result> => {
    checkRequestId(requestId)
    const submission = { requestId, type, input: jsonText(type, input), inReplyTo }
    const end = clock.now() + patienceMs
    let perhapsTaken = false
    for (let failures = 1; ; failures++) {
      if (signal.aborted) throw closed()
      const tried = await trySubmission(exchange, submission, read, { now: clock.now(), signal, headers })
      if (tried.kind === 'refused') {
        throw tried.blind && perhapsTaken ? outcomeUnknown(requestId, tried.error) : tried.error
      }
      if (tried.kind === 'done') return tried.result
      perhapsTaken ||= tried.taken === 'perhaps'
      // Nobody logs in here, so a refused key stays refused.
      if (tried.error.advice === 'change') throw tried.error
      const waitMs = pauseMs(asking, failures, tried.askedMs)
      if (clock.now() + waitMs >= end) throw tried.error
      await pause(clock, waitMs, signal)
    }
  }

  return {
    submit: (type, input, options) => send(type, input, options, verdictOf) as Promise<never>,
    enqueue: (type, input, options) => send(type, input, options, enqueuedOf, { prefer: 'respond-async' }),
    get: (table, key, options) => reading.get(table, key, tokensOf(options), options?.at) as Promise<never>,
    scan: (table, query = {}, options) =>
      reading.scan(table, query, tokensOf(options), options?.at) as Promise<never>,
    subscribe: (changes, ended) => subscribe({ tables: [] }, { changes, ended }, asking),
    close: async () => closing.abort(),
  }
}
