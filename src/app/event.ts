import type { Schema } from './schema.ts'
import type { Versioned } from './version.ts'

/** An immutable message that a derivation emits to a partition key of the event's scope. */
export interface Event<
  Scope extends string = string,
  Name extends string = string,
  // biome-ignore lint/suspicious/noExplicitAny: an event of any data is what "any event" means here.
  Data = any,
> extends Versioned {
  readonly kind: 'event'
  readonly scope: Scope
  readonly name: Name
  readonly data: Schema<unknown, Data>
  key(data: Data): string
}

export type DataOf<E extends Event> = E extends Event<string, string, infer D> ? D : never
