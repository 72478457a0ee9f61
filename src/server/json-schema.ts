import { shown } from '../failure.ts'

/** JSON Schema (2020-12), as much of it as OpenAPI documents and the bodies of Hence's own routes need. */
export type JsonSchema = Readonly<Record<string, unknown>>

export const text: JsonSchema = { type: 'string' }
export const anything: JsonSchema = {}
export const count: JsonSchema = { type: 'integer', minimum: 0 }
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
export const time: JsonSchema = { ...count, description: 'Log time, in milliseconds since 1970.' }

export const oneOf = (...values: readonly (string | number)[]): JsonSchema => ({ enum: values })
export const list = (items: JsonSchema): JsonSchema => ({ type: 'array', items })

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
export const closed = (members: Readonly<Record<string, JsonSchema>>): JsonSchema =>
  object(members, { additionalProperties: false })

interface MemberSchema {
  readonly type: 'string' | 'number' | 'boolean'
  readonly pattern?: string
  readonly exclusiveMinimum?: number
  readonly maximum?: number
}

/** Returns the first flaw of a body by the schema of its route, a closed object, as the end of a sentence. */
export function flawIn({ properties, required = [] }: JsonSchema, body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return 'the body must be an object'
  const missing = (required as string[]).find((name) => !Object.hasOwn(body, name))
  if (missing !== undefined) return `the body must have the member ${missing}`
  for (const [name, value] of Object.entries(body)) {
    if (!Object.hasOwn(properties as object, name))
      return `the body must not have the member ${JSON.stringify(shown(name))}`
    const { type, pattern, exclusiveMinimum, maximum } = (properties as Record<string, MemberSchema>)[name]!
    if (typeof value !== type) return `${name} must be a ${type}`
    if (pattern !== undefined && !new RegExp(pattern).test(value)) return `${name} must match ${pattern}`
    if (value <= (exclusiveMinimum ?? Number.NaN)) return `${name} must be more than ${exclusiveMinimum}`
    if (value > (maximum ?? Number.NaN)) return `${name} must be at most ${maximum}`
  }
  return undefined
}
