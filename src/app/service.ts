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
 * What takes an app's requests and answers from its tables: the engine in the same process, or a connection to
 * the process that has it. Code that is written against this need not know which.
 */
export interface Service<A extends App> {
  /**
   * Sends a request; resolves when it is durable and decided. However often it is sent with one id, it is
   * derived once, and every reply is the first one.
   */
  submit<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: { readonly requestId: string },
  ): Promise<Reply<RequestValue<A, N>, RequestReason<A, N>>>
  /**
   * Like `submit`, but resolves as soon as the request is durable; what becomes of it is told by `submit` with the
   * same id.
   */
  enqueue<N extends RequestName<A>>(
    type: N,
    input: RequestInput<A, N>,
    options: { readonly requestId: string },
  ): Promise<Enqueued>
  /** The row under a key: `service.get('lines', ['order-1', 3])`. */
  get<N extends TableName<A>>(
    table: N,
    key: TableKey<A, N>,
    options?: ReadOptions,
  ): Promise<Frozen<TableValue<A, N>> | undefined>
  /** The rows that a query names, in order; their keys begin with the partition key. */
  scan<N extends TableName<A>>(
    table: N,
    query?: Query<IndexOf<TableNamed<A, N>>>,
    options?: ReadOptions,
  ): Promise<Row<TableKey<A, N>, TableValue<A, N>>[]>
  /**
   * Hears of every changed row, in the order of each partition, after its record is durable and applied. Of what another
   * generation has otherwise it hears nothing when that is promoted: `changes` ends then, so that its reader begins anew.
   * @returns ends it
   */
  subscribe(listener: (changes: readonly TableChange[]) => void): () => void
  /** Takes nothing more, and lets go of what it holds. */
  close(): Promise<void>
}

/** The outcome of a request, and how it was come by. */
export type Reply<Value = unknown, Reason extends string = string> = Outcome<Value, Reason> & {
  readonly requestId: string
  /** Where the request stands in the log; hand it to a read as `after` to see what it changed. */
  readonly token: string
  /** Whether the request had arrived before; the outcome is that of the first time. */
  readonly replayed: boolean
}

/** A request that is durable, and may be undecided. */
export type Enqueued = Pick<Reply, 'requestId' | 'token'>

export interface ReadOptions {
  /** Tokens of replies: the read waits until those requests, and all events that follow from them, are applied. */
  readonly after?: string | readonly string[]
}

/** One changed row. */
export interface TableChange {
  readonly table: string
  readonly key: readonly KeyPart[]
  /** Undefined when the row is new. */
  readonly before: unknown
  /** Undefined when the row was removed. */
  readonly after: unknown
  /** The record that changed it: `partition:offset`. */
  readonly token: string
}

export interface SubmitOptions {
  /** Made by the client and stored before it is sent; see `identityOf` for its form. */
  readonly requestId: string
  /** Who sends it; ids of different principals are different ids. Default: the empty string. */
  readonly principal?: string
}
