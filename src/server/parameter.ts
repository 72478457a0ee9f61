import type { QueryPart } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { parseStrict } from '../json.ts'
import { text as anyText, type JsonSchema, list } from './json-schema.ts'

/** A query parameter of a route: the router reads it and OpenAPI describes it by this. */
export interface Parameter<Value = unknown> {
  readonly schema: JsonSchema
  /** Its value is JSON, and the schema describes that. */
  readonly isJson?: true
  readonly description: string
  readonly isRequired: boolean
  readonly isRepeatable: boolean
  /** @param given the values in the query; several only where the parameter may be repeated */
  read(given: readonly string[], name: string): Value
}

export type Parameters = Readonly<Record<string, Parameter>>
export type ValuesOf<P extends Parameters> = {
  readonly [Name in keyof P]: P[Name] extends Parameter<infer Value> ? Value : never
}

/**
 * Reads the query of a request. Unknown and repeated parameters are refused: a misspelt `form=` for `from=`
 * would otherwise return rows that nobody asked for.
 */
export function readQuery<P extends Parameters>(parameters: P, query: URLSearchParams): ValuesOf<P> {
  for (const name of query.keys()) {
    if (!Object.hasOwn(parameters, name)) {
      const known = Object.keys(parameters).join(', ') || 'none'
      throw queryInvalid(`there is no parameter ${JSON.stringify(name)} here; known are: ${known}`)
    }
  }
  const values: Record<string, unknown> = {}
  for (const [name, parameter] of Object.entries(parameters)) {
    const given = query.getAll(name)
    if (given.length > 1 && !parameter.isRepeatable) throw queryInvalid(`\`${name}\` is given more than once`)
    values[name] = parameter.read(given, name)
  }
  return values as ValuesOf<P>
}

export function text(description: string, schema = anyText): Parameter<string | undefined> {
  return parameter<string | undefined>(schema, description, undefined, (given) => given)
}

export const cursorAfter = text('The `cursor` of the page before; the other parameters stay as they were.', {
  type: 'string',
  pattern: '^[\\w-]+$',
})

export function texts(description: string, items = anyText): Parameter<readonly string[]> {
  return { schema: list(items), description, isRequired: false, isRepeatable: true, read: (given) => given }
}

/** A whole number within bounds, both included. */
export function integer(min: number, max: number, absent: number, description: string): Parameter<number> {
  const schema = { type: 'integer', minimum: min, maximum: max, default: absent }
  return parameter(schema, description, absent, (given, name) => {
    const number = /^\d{1,15}$/.test(given) ? Number(given) : Number.NaN
    if (number >= min && number <= max) return number
    throw queryInvalid(`\`${name}\` must be a whole number from ${min} to ${max}`)
  })
}

export function choice<const V extends string>(
  values: readonly V[],
  absent: NoInfer<V>,
  description: string,
): Parameter<V> {
  return parameter({ enum: values, default: absent }, description, absent, (given, name) => {
    const value = values.find((each) => each === given)
    if (value !== undefined) return value
    throw queryInvalid(`\`${name}\` must be one of ${values.join(', ')}`)
  })
}

/** Parts of a key or of an index, as a JSON list: `["ada",3]`. */
export function keyParts(description: string): Parameter<readonly QueryPart[] | undefined> {
  const types = ['string', 'number', 'boolean']
  const read = (given: string, name: string): readonly QueryPart[] | undefined => {
    const parts = parseStrict(given)
    if (Array.isArray(parts) && parts.every((part) => types.includes(typeof part))) return parts
    throw queryInvalid(`\`${name}\` must be a JSON list of text, numbers and booleans`)
  }
  return { ...parameter(list({ type: types }), description, undefined, read), isJson: true }
}

function parameter<Value>(
  schema: JsonSchema,
  description: string,
  absent: Value,
  read: (given: string, name: string) => Value,
): Parameter<Value> {
  return {
    schema,
    description,
    isRequired: false,
    isRepeatable: false,
    read: ([given], name) => (given === undefined ? absent : read(given, name)),
  }
}

const queryInvalid = (why: string) =>
  changeError('query-invalid', `The query of the address is invalid: ${why}.`)
