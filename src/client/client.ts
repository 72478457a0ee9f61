import { v7 } from 'uuid'
import type {
  App,
  Frozen,
  KeyPart,
  ReadOptions,
  Reply,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  Service,
  TableKey,
  TableName,
  TableValue,
} from '../app/index.ts'
import { type Clock, systemClock } from '../clock.ts'
import { changeError, HenceError } from '../failure.ts'
import { answeredId, checkRequestId } from '../identity.ts'
import type { Backoff } from './backoff.ts'
import { type Drain, type ExpiredChoice, type OpenRequest, startDrain } from './drain.ts'
import { Exchange, type ExchangeOptions } from './exchange.ts'
import { jsonText } from './json-text.ts'
import { Listeners } from './listeners.ts'
import type { Outbox } from './outbox.ts'
import { Reading, tokensOf } from './reading.ts'
import { subscribe } from './subscription.ts'
import type { Refused } from './verdict.ts'

export interface ClientOptions extends ExchangeOptions {
  /** Where requests are stored before they are sent: `indexedDb()`, `file(path)` or `memory()`. */
  readonly outbox: Outbox
  /** How many queues send at the same time. Default 6, the connections that browsers allow to one server. */
  readonly parallel?: number
  /** How long to wait between tries. Default: up to 250 ms after the first, doubling up to 60 s. */
  readonly backoff?: Backoff
  /** How long a read is retried while no server answers, in milliseconds. Default 10,000. */
  readonly patienceMs?: number
  /**
   * Decides which refusals (4xx) are final, so that the request leaves the outbox; undefined: by default
   * those that are Hence's own answer to this request. Others may come although it was accepted, so name
   * only statuses whose sender you know, for example 413 of your proxy.
   */
  readonly isFinal?: (refused: Refused) => boolean | undefined
  /**
   * Decides about a request whose id has expired, and which an earlier try may have had accepted: `keep` it
   * (the default; its queue waits, and `stuck` reports it), send it `anew` under a new id, or `drop` it with
   * `outcome-unknown`. Look at the data first: sent anew, it may be decided twice.
   */
  readonly expired?: (request: {
    readonly requestId: string
    readonly type: string
    readonly input: unknown
    readonly since: number
  }) => 'keep' | 'anew' | 'drop'
  readonly clock?: Clock
  /** Numbers in [0, 1) for the jitter of pauses. */
  readonly random?: () => number
}

export interface ClientSubmitOptions {
  /** Default: a new UUID of version 7. Pass one to submit a request again, or to know its id beforehand. */
  readonly requestId?: string
  /**
   * Requests of one queue are decided one after the other, in the order of their submission; queues do not
   * wait for each other. Name the thing whose order matters, for example the order or the account. Default:
   * one queue for all.
   */
  readonly queue?: string
  /** The id of the effect, violation or request that this request replies to. */
  readonly inReplyTo?: string
}

/** A request that is stored and undecided. */
export type Pending<A extends App> = {
  readonly [N in RequestName<A>]: {
    readonly requestId: string
    readonly type: N
    readonly input: RequestInput<A, N>
    readonly queue: string
    /** When it was stored, in milliseconds since 1970. */
    readonly since: number
    /** Tries since this client was made. */
    readonly attempts: number
    /** Why the last try decided nothing. */
    readonly problem: HenceError | undefined
  }
}[RequestName<A>]

/** The events of a client, for a user interface. */
export interface ClientEvents<A extends App> {
  /** A request is stored: a new one, one of another tab, or one found in the outbox at the start. */
  readonly pending: Pending<A>
  /** A request is decided, whoever sent it. Emitted at least once; rarely again, with the same reply. */
  readonly decided: {
    readonly [N in RequestName<A>]: Extract<Pending<A>, { readonly type: N }> & {
      readonly reply: Reply<RequestValue<A, N>, RequestReason<A, N>>
    }
  }[RequestName<A>]
  /** The server refused a request, and it left the outbox. */
  readonly refused: Pending<A> & { readonly error: HenceError }
  /** A try decided nothing; the next follows after `inMs` milliseconds. */
  readonly retrying: Pending<A> & { readonly inMs: number }
  /**
   * A request makes no progress: nobody is logged in, an operator must look, or it was tried ten times. Tries
   * go on; `retry()` tries at once.
   */
  readonly stuck: Pending<A>
}

/** A changed row of one of several tables. */
export type Change<A extends App, N extends TableName<A>> = {
  readonly [T in N]: {
    readonly table: T
    readonly key: TableKey<A, T>
    /** Undefined when the row is new, or was not visible before. */
    readonly before?: Frozen<TableValue<A, T>>
    /** Undefined when the row was removed, or is no longer visible. */
    readonly after?: Frozen<TableValue<A, T>>
    readonly token: string
  }
}[N]

export interface Subscription<A extends App, N extends TableName<A>> {
  readonly tables: readonly N[]
  /** Only rows whose key begins with these parts. */
  readonly prefix?: readonly KeyPart[]
  /** The position to resume from, as a listener received it. */
  readonly from?: string
  /**
   * Called when earlier changes are unknown, so that the tables must be read: when the subscription begins,
   * and when it could not resume where it broke off. The listener gets all later changes.
   */
  readonly anew?: () => void
  /** Called when it cannot go on, for example because a table does not exist. */
  readonly ended?: (error: HenceError) => void
}

/** Sends an app's requests until they are decided. Its reads reflect every outcome that it has received. */
export interface Client<A extends App> extends Pick<Service<A>, 'get' | 'scan'> {
  /**
   * Stores a request, sends it, and resolves when it is decided. Until then it stays stored, whatever happens
   * to this page or process, and the next client on the same outbox sends it again.
   *
   * @throws HenceError with advice
   * - `change`: the server's refusal, and nothing was written; `input-not-json`, `request-id-invalid`,
   *   `request-id-reused`
   * - `operator`: `outcome-unknown`, when an earlier try may have been accepted and the server refuses to say
   * - `retry`: `outbox-failed`, when it could not be stored; `client-closed`, when it is still stored
   */
  submit<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options?: ClientSubmitOptions,
  ): Promise<Reply<RequestValue<A, N>, RequestReason<A, N>>>
  /**
   * The requests that are stored and undecided, in the order of each queue, with those that an earlier page
   * or process stored, and those of every `submit` before this call.
   * @throws HenceError `outbox-failed` (retry)
   */
  pending(): Promise<readonly Pending<A>[]>
  /** @returns ends the subscription */
  on<E extends keyof ClientEvents<A>>(event: E, listener: (detail: ClientEvents<A>[E]) => void): () => void
  /** Tries everything that waits now, for example after a login. Browsers do so when they come online. */
  retry(): void
  /**
   * Calls back with changed rows of some tables, across lost connections and restarts of the server.
   * @returns ends the subscription
   */
  subscribe<N extends TableName<A>>(
    subscription: Subscription<A, N>,
    listener: (changes: readonly Change<A, N>[], position: string) => void,
  ): () => void
  /** Stops sending and reading. Undecided requests stay in the outbox. */
  close(): Promise<void>
}

/** How many tokens are kept; the events of requests decided longer ago have long been applied. */
const tokensMax = 1_000

/**
 * Makes a client of a Hence server: `client<typeof shop>({ url: '/hence', outbox: indexedDb() })`. Only the
 * type of the app is needed.
 * @throws HenceError `option-invalid` (change)
 */
export function client<A extends App>(options: ClientOptions): Client<A> {
  if (options?.outbox === undefined)
    throw changeError('option-invalid', 'A client needs options with an `outbox`: indexedDb(), for example.')
  const { clock = systemClock, random = Math.random, parallel = 6, patienceMs = 10_000 } = options
  const backoff = options.backoff ?? { firstMs: 250, mostMs: 60_000 }
  if (!Number.isSafeInteger(parallel) || parallel < 1)
    throw changeError('option-invalid', `\`parallel\` must be a whole number from 1 on, not ${parallel}.`)
  const exchange = new Exchange(options)
  const listeners = new Listeners<ClientEvents<A>>()
  /** Tokens of accepted requests, each of its own partition, that no read of this client has waited for yet. */
  const tokens = new Set<string>()
  const note = (token: string) => {
    tokens.add(token)
    const [oldest] = tokens
    if (tokens.size > tokensMax) tokens.delete(oldest!)
  }
  const closing = new AbortController()
  const following = { exchange, backoff, clock, random, closing: closing.signal }
  const reading = new Reading({ ...following, patienceMs })
  /** By the time of the server, as far as an answer has said it: the clock of a device may be wrong. */
  const newId = () => v7({ msecs: clock.now() + exchange.aheadMs })
  let draining: Drain | undefined
  const opened = options.outbox.open().then(async (outbox) => {
    draining = await startDrain({
      ...following,
      outbox,
      parallel,
      isFinal: options.isFinal,
      newId,
      expired: ({ stored: { requestId, type, input, since } }): ExpiredChoice =>
        options.expired?.({ requestId, type, input: JSON.parse(input), since }) ?? 'keep',
      tell(event, request, more) {
        if (more && 'reply' in more && more.reply.status === 'accepted') note(more.reply.token)
        listeners.tell(event, { ...pendingOf<A>(request), ...more } as never)
      },
    })
    return draining
  })
  // The submitter gets the error; after a reload there may be none.
  opened.catch(() => {})
  const goOn = () => draining?.retry()
  const page = globalThis as { addEventListener?: OnlineTarget; removeEventListener?: OnlineTarget }
  page.addEventListener?.('online', goOn)

  /** Reads at least as far as every outcome that this client received, or as the tokens that the caller passes. */
  const read = async (
    options: ReadOptions,
    reading: (tokens: readonly string[]) => Promise<unknown>,
  ): Promise<never> => {
    let awaited = options.after === undefined ? [...tokens] : tokensOf(options)
    try {
      return (await reading(awaited)) as never
    } catch (error) {
      // A token of another log, for example after a fresh start in development, or a made-up one.
      if (!(error instanceof HenceError) || error.code !== 'token-unknown') awaited = []
      throw error
    } finally {
      for (const token of awaited) tokens.delete(token)
    }
  }

  return {
    async submit(type, input, options = {}) {
      const { requestId = newId(), queue = '', inReplyTo } = options
      checkRequestId(requestId)
      if (inReplyTo !== undefined) answeredId(inReplyTo, requestId)
      const reply = inReplyTo !== undefined && { inReplyTo }
      const stored = { requestId, type, input: jsonText(type, input), queue, since: clock.now(), ...reply }
      return (await opened).submit(stored) as Promise<never>
    },
    pending: async () => (await (await opened).pending()).map((request) => pendingOf(request)),
    on: (event, listener) => listeners.on(event, listener),
    retry: goOn,
    get: (table, key, options = {}) => read(options, (tokens) => reading.get(table, key, tokens, options.at)),
    scan: (table, query = {}, options = {}) =>
      read(options, (tokens) => reading.scan(table, query, tokens, options.at)),
    subscribe: ({ tables, prefix, from, anew, ended }, listener) =>
      subscribe(
        { tables, prefix, from },
        { changes: (changes, position) => listener(changes as never, position), anew, ended },
        following,
      ),
    async close() {
      page.removeEventListener?.('online', goOn)
      closing.abort()
      await opened.then(
        (drain) => drain.close(),
        () => {},
      )
    },
  }
}

type OnlineTarget = (type: 'online', listener: () => void) => void

function pendingOf<A extends App>({ stored, attempts, problem }: OpenRequest): Pending<A> {
  const { requestId, type, input, queue, since } = stored
  return { requestId, type, input: JSON.parse(input), queue, since, attempts, problem } as Pending<A>
}
