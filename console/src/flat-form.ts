/** The members of JSON Schema that a plain form understands. */
export interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minLength?: number
  readonly maxLength?: number
  readonly description?: string
  readonly [more: string]: unknown
}

/** Where an input begins that a schema describes: its required members, with nothing in them. */
export function emptyOf(schema: Schema): unknown {
  const { type, properties = {}, required = [] } = schema
  const [one] = (schema['anyOf'] ?? schema['oneOf'] ?? []) as readonly Schema[]
  if (one !== undefined) return emptyOf(one)
  if ('const' in schema) return schema.const
  if (schema.enum !== undefined) return schema.enum[0]
  if (type === 'array') return [emptyOf((schema['items'] ?? {}) as Schema)]
  if (type === 'object' || schema.properties !== undefined)
    return Object.fromEntries(required.map((name) => [name, emptyOf(properties[name] ?? {})]))
  return type === 'number' || type === 'integer' ? 0 : type === 'boolean' ? false : ''
}

export interface Field {
  readonly name: string
  readonly kind: 'string' | 'number' | 'integer' | 'boolean'
  readonly isRequired: boolean
  /** The texts to choose from, if there are only some. */
  readonly options?: readonly string[] | undefined
  readonly minLength?: number | undefined
  readonly maxLength?: number | undefined
  readonly description?: string | undefined
}

const combining = ['anyOf', 'oneOf', 'allOf', 'not', '$ref', 'if', 'patternProperties']

/** The fields of a flat object; undefined for any other schema, which takes JSON as text. */
export function fieldsIn(schema: Schema): readonly Field[] | undefined {
  if (schema.type !== 'object' || schema.properties === undefined || isCombined(schema)) return undefined
  const fields = Object.entries(schema.properties).map(([name, each]) => fieldOf(name, each, schema))
  return fields.every((field) => field !== undefined) ? fields : undefined
}

function fieldOf(name: string, schema: Schema, { required = [] }: Schema): Field | undefined {
  const { type, minLength, maxLength, description } = schema
  const kind = (['string', 'number', 'integer', 'boolean'] as const).find((each) => each === type)
  const given = schema.enum ?? ('const' in schema ? [schema.const] : undefined)
  if (kind === undefined || isCombined(schema)) return undefined
  const options = kind === 'boolean' ? ['true', 'false'] : given?.map(String)
  return { name, kind, isRequired: required.includes(name), options, minLength, maxLength, description }
}

const isCombined = (schema: Schema) => combining.some((name) => name in schema)

/** The JSON of what was typed. Numbers are passed on as they were typed, so that none is rounded on the way. */
export function textOf(fields: readonly Field[], values: Readonly<Record<string, string>>): string {
  const members = fields.flatMap(({ name, kind, isRequired }) => {
    const value = values[name] ?? ''
    if (value === '' && (!isRequired || kind !== 'string')) return []
    const text = kind === 'string' || !isLiteral(value) ? JSON.stringify(value) : value
    return [`${JSON.stringify(name)}:${text}`]
  })
  return `{${members.join(',')}}`
}

const isLiteral = (text: string) => /^(true|false|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)$/.test(text)

/** The texts of an object's members, for its form. */
export function valuesIn(fields: readonly Field[], json: string): Readonly<Record<string, string>> {
  const given = JSON.parse(json) as Readonly<Record<string, unknown>> | null
  const text = (value: unknown) => (value === undefined ? '' : String(value))
  return Object.fromEntries(fields.map(({ name }) => [name, text(given?.[name])]))
}
