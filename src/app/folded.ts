import type { Outcome } from './outcome.ts'
import type { Frozen } from './schema.ts'
import type { KeyPart } from './table.ts'

/** The position and time that a message of a view has. */
interface Folded {
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  /** The position of the record that it was derived with: `partition:offset`. */
  readonly token: string
}

/** A changed row of a table. */
export interface FoldedChange<Key = readonly KeyPart[], Value = unknown> extends Folded {
  readonly key: Key
  /** Left out when the row is new. */
  readonly before?: Frozen<Value>
  /** Left out when the row was removed. */
  readonly after?: Frozen<Value>
}

/** A request that was decided, also a rejected or failed one. */
export interface FoldedRequest<Input = unknown, Value = unknown, Reason extends string = string>
  extends Folded {
  readonly requestId: string
  readonly principal: string
  /** The version of the request's schema when it was admitted; views get no upcast input. */
  readonly version: number
  /** The output of the schema. */
  readonly input: Input
  /** By the code of the live generation. */
  readonly outcome: Outcome<Value, Reason>
}

/** An event, as it was emitted. */
export interface FoldedEvent extends Folded {
  /** The partition key that it is for. */
  readonly key: string
  /** The version of its schema when it was emitted. */
  readonly version: number
  // biome-ignore lint/suspicious/noExplicitAny: the type of an app does not have its events.
  readonly data: any
}
