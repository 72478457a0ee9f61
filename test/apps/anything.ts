import type { Schema } from 'hence'

/** A schema that accepts everything. A module with it alone is small, so that many apps load fast. */
export function anything<T>(): Schema<T> {
  return { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as T }) } }
}
