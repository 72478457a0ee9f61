import type { StandardSchemaV1 } from '@standard-schema/spec'

/** Any Standard Schema (https://standardschema.dev), for example from zod, valibot or arktype. */
export type Schema<Input = unknown, Output = Input> = StandardSchemaV1<Input, Output>

/** The result of a schema that is not asynchronous. */
export type Validated = Awaited<ReturnType<Schema['~standard']['validate']>>

/** The type of a value before the schema parses it. */
export type InputOf<S extends Schema> = StandardSchemaV1.InferInput<S>
/** The type of a value after the schema parsed it. */
export type OutputOf<S extends Schema> = StandardSchemaV1.InferOutput<S>

/** A value that JSON keeps unchanged. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }

/** Derivations get rows, inputs and event data deeply frozen. */
export type Frozen<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T

/** The issues that a schema found, as one line of text. */
export function issuesText(issues: readonly StandardSchemaV1.Issue[]): string {
  const lineOf = ({ path, message }: StandardSchemaV1.Issue) => {
    const place = path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.')
    return place ? `${place}: ${message}` : message
  }
  return issues.map(lineOf).join('; ')
}

/** The part of a Standard Schema that describes it as JSON Schema, where its library has that. */
interface JsonSchemaSource {
  readonly jsonSchema?: Readonly<Record<'input' | 'output', (options: { target: string }) => object>>
}

/** The JSON Schema (2020-12) of a schema; undefined if its library has none of it. */
export function jsonSchemaOf(
  schema: Schema,
  side: 'input' | 'output',
): Readonly<Record<string, unknown>> | undefined {
  const source = (schema['~standard'] as JsonSchemaSource).jsonSchema
  for (const each of side === 'output' ? (['output', 'input'] as const) : (['input'] as const)) {
    try {
      const { $schema: _, ...described } = source![each]({ target: 'draft-2020-12' }) as { $schema?: string }
      return described
    } catch {
      // The library has no JSON Schema of this one.
    }
  }
  return undefined
}
