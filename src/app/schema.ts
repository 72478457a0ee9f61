import type { StandardSchemaV1 } from '@standard-schema/spec'

/** Any Standard Schema (https://standardschema.dev), such as one made by zod, valibot or arktype. */
export type Schema<Input = unknown, Output = Input> = StandardSchemaV1<Input, Output>

/** What is sent. */
export type InputOf<S extends Schema> = StandardSchemaV1.InferInput<S>
/** What the schema makes of it. */
export type OutputOf<S extends Schema> = StandardSchemaV1.InferOutput<S>

/** A value that survives JSON unchanged. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }

/** Rows, inputs and event data are handed to derivations frozen, all the way down. */
export type Frozen<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T

/** What a schema found wrong, as one line. */
export function issuesText(issues: readonly StandardSchemaV1.Issue[]): string {
  const lines = issues.map(({ path, message }) => {
    const place = path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.')
    return place ? `${place}: ${message}` : message
  })
  return lines.join('; ')
}
