import type { DataOf, Event } from './event.ts'
import type { FoldedChange, FoldedEvent, FoldedRequest } from './folded.ts'
import type { AcceptedOf, ClaimedOf, ReasonOf, Request } from './request.ts'
import type { Frozen } from './schema.ts'
import type { FoldedRows, PartsOf, Table, ValueOf } from './table.ts'

/**
 * Says how rows of a table come from one kind of message of the past, for code that continues where code
 * stopped that lacked the table.
 */
export interface Fill<S extends string = string> {
  readonly kind: 'fill'
  readonly scope: S
  readonly table: Table<S>
  readonly source: Request<S> | Event<S> | Table<S>
  // biome-ignore lint/suspicious/noExplicitAny: a fold takes one kind of message, and this is any fold.
  fold(rows: any, message: any): void
}

/** The rows of a table under the partition key of a message. Keys omit it, as those of `tx` do. */
export interface FillRows<T extends Table> extends FoldedRows<T, PartsOf<T>> {}

/** The message that a fill gets from a request, an event or a table. */
export type FillMessage<Source> =
  Source extends Request<string, string, infer _I, infer Output, infer Result>
    ? FoldedRequest<Output, AcceptedOf<Result>, ReasonOf<Result> | ClaimedOf<Source>>
    : Source extends Event
      ? Omit<FoldedEvent, 'data'> & { readonly data: Frozen<DataOf<Source>> }
      : Source extends Table
        ? FoldedChange<readonly [key: string, ...rest: PartsOf<Source>], ValueOf<Source>>
        : never
