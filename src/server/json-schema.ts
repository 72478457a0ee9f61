import { shown } from '../failure.ts'

/** JSON Schema (2020-12), as much of it as OpenAPI documents and the bodies of Hence's own routes need. */
export type JsonSchema = Readonly<Record<string, unknown>>

export const text: JsonSchema = { type: 'string' }
export const anything: JsonSchema = {}
/** The hash of a bundle or a diff: SHA-256 in hexadecimal. */
export const sha256: JsonSchema = { type: 'string', pattern: '^[0-9a-f]{64}$' }
export const requestId: JsonSchema = { type: 'string', pattern: '^[!-~]{1,255}$' }
/** At most 255 bytes, which no schema can say. */
export const principal: JsonSchema = {
  type: 'string',
  maxLength: 255,
  pattern: '^[^\\u0000-\\u001f\\u007f]*$',
}
export const token: JsonSchema = { type: 'string', pattern: '^\\d{1,4}:\\d{1,16}$' }
/** Log time, in milliseconds since 1970. */
export const time: JsonSchema = {
  type: 'integer',
  minimum: 0,
  description: 'Log time, in milliseconds since 1970.',
}

export function oneOf(...values: readonly (string | number)[]): JsonSchema {
  return { enum: values }
}

export function list(items: JsonSchema): JsonSchema {
  return { type: 'array', items }
}

/** @param members optional ones end with a question mark: `{ id: text, 'note?': text }` */
export function object(members: Readonly<Record<string, JsonSchema>>, more: JsonSchema = {}): JsonSchema {
  const names = Object.keys(members)
  const required = names.filter((name) => !name.endsWith('?'))
  return {
    type: 'object',
    ...(required.length > 0 && { required }),
    properties: Object.fromEntries(names.map((name) => [name.replace(/\?$/, ''), members[name]])),
    ...more,
  }
}

/** An object that may have no other members: a body that is read strictly. */
export function closed(members: Readonly<Record<string, JsonSchema>>): JsonSchema {
  return object(members, { additionalProperties: false })
}

/**
 * Checks a value against a schema, with the keywords that the bodies of Hence's own routes use.
 * @returns the first flaw, as the end of a sentence; undefined if there is none
 */
export function flawIn(schema: JsonSchema, value: unknown, at = 'the body'): string | undefined {
  const { type, enum: values, pattern, minLength, minimum, exclusiveMinimum, maximum } = schema
  if (type !== undefined && !isOfType(type as string, value))
    return `${at} must be ${article(type as string)}`
  if (Array.isArray(values) && !values.includes(value)) return `${at} must be one of ${values.join(', ')}`
  if (typeof value === 'string') {
    if (pattern !== undefined && !new RegExp(pattern as string).test(value)) {
      return `${at} must match ${pattern}`
    }
    if (value.length < ((minLength as number) ?? 0)) return `${at} must not be empty`
  }
  if (typeof value === 'number') {
    if (value < ((minimum as number) ?? value)) return `${at} must be at least ${minimum}`
    if (value <= ((exclusiveMinimum as number) ?? value - 1))
      return `${at} must be more than ${exclusiveMinimum}`
    if (value > ((maximum as number) ?? value)) return `${at} must be at most ${maximum}`
  }
  if (type === 'object') return flawInMembers(schema, value as Record<string, unknown>, at)
  if (type !== 'array') return undefined
  const items = schema['items'] as JsonSchema
  for (const [i, each] of (value as unknown[]).entries()) {
    const flaw = flawIn(items, each, `${at}[${i}]`)
    if (flaw !== undefined) return flaw
  }
  return undefined
}

function flawInMembers(schema: JsonSchema, value: Record<string, unknown>, at: string): string | undefined {
  const properties = schema['properties'] as Record<string, JsonSchema>
  const missing = ((schema['required'] as string[]) ?? []).find((name) => !Object.hasOwn(value, name))
  if (missing !== undefined) return `${at} must have the member ${missing}`
  for (const [name, each] of Object.entries(value)) {
    if (!Object.hasOwn(properties, name)) {
      if (schema['additionalProperties'] === false)
        return `${at} must not have the member ${JSON.stringify(shown(name))}`
      continue
    }
    const flaw = flawIn(properties[name]!, each, name)
    if (flaw !== undefined) return flaw
  }
  return undefined
}

function isOfType(type: string, value: unknown): boolean {
  if (type === 'array') return Array.isArray(value)
  if (type === 'integer') return Number.isSafeInteger(value)
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  return typeof value === type
}

function article(type: string): string {
  return `${/^[aio]/.test(type) ? 'an' : 'a'} ${type}`
}
