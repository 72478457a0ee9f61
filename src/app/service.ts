import type {
  App,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  TableKey,
  TableName,
  TableNamed,
  TableValue,
} from './app.ts'
import type { Outcome } from './outcome.ts'
import type { Frozen } from './schema.ts'
import type { IndexOf, KeyPart, Query, Row } from './table.ts'

/**
 * Takes an app's requests and reads its tables: the engine in this process, or a connection to another
 * process that runs it. Code written against this interface works with both.
 */
export interface Service<A extends App, Send = SendOptions, Scan = ReadOptions> {
  /**
   * Sends a request; resolves when it is durable and decided. Sent again with the same id, it is not derived
   * again: every reply has the first outcome, with `corrected` beside it if promoted code decides otherwise.
   */
  submit<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: Send,
  ): Promise<Reply<RequestValue<A, N>, RequestReason<A, N>>>
  /** Like `submit`, but resolves once the request is durable; `submit` with the same id gets its outcome. */
  enqueue<N extends RequestName<A>>(type: N, input: RequestInput<A, N>, options: Send): Promise<Enqueued>
  /** The row under a key: `service.get('lines', ['order-1', 3])`. */
  get<N extends TableName<A>>(
    table: N,
    key: TableKey<A, N>,
    options?: ReadOptions,
  ): Promise<Frozen<TableValue<A, N>> | undefined>
  /** The rows that match a query, in order; their keys start with the partition key. */
  scan<N extends TableName<A>>(
    table: N,
    query?: Query<IndexOf<TableNamed<A, N>>>,
    options?: Scan,
  ): Promise<Row<TableKey<A, N>, TableValue<A, N>>[]>
  /**
   * Calls a listener for every changed row, in the order of each partition, after its record is durable and
   * applied. Promotions are not reported row by row: `changes` ends; read the tables again.
   * @returns unsubscribes
   */
  subscribe(listener: (changes: readonly TableChange[]) => void): () => void
  /** Stops taking requests and releases its resources. */
  close(): Promise<void>
}

/** The outcome of a request, with its id and position. */
export type Reply<Value = unknown, Reason extends string = string> = Outcome<Value, Reason> & {
  readonly requestId: string
  /** The request's position in the log; pass it to a read as `after` to see what the request changed. */
  readonly token: string
  /** Whether this was a retry; the outcome is the first one. */
  readonly replayed: boolean
  /** Only of a retry: the outcome by the code that was promoted since, if it differs from the first one. */
  readonly corrected?: Outcome
}

/** A request that is durable and may be undecided. */
export type Enqueued = Pick<Reply, 'requestId' | 'token'>

export interface ReadOptions {
  /** Tokens of replies: the read waits until those requests, and all events that follow, are applied. */
  readonly after?: string | readonly string[] | undefined
  /**
   * Reads rows of the app's tables as they were: once the record of this token was applied, and all others up
   * to its log time; or at a log time, in milliseconds since 1970. As far back as changes are kept, and no
   * farther than the last promotion.
   */
  readonly at?: string | number | undefined
}

/** One changed row. */
export interface TableChange {
  readonly table: string
  readonly key: readonly KeyPart[]
  /** Undefined when the row is new. */
  readonly before: unknown
  /** Undefined when the row was removed. */
  readonly after: unknown
  /** The position of the record that changed it: `partition:offset`. */
  readonly token: string
}

export interface SendOptions {
  /** Made by the client and stored before it is sent: 1 to 255 visible ASCII characters, for example a UUIDv7. */
  readonly requestId: string
  /**
   * The id of the effect, violation or request that this request replies to, for example of the e-mail that
   * asked for another name. The stories of both then lead to each other. The first try decides it.
   */
  readonly inReplyTo?: string | undefined
}

export interface SubmitOptions extends SendOptions {
  /** The sender; ids are scoped by principal. Default: the empty string. */
  readonly principal?: string | undefined
}
