import canonicalize from 'canonicalize'
import type { App, Request } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { operatorRequests } from '../derivation/operator.ts'
import { HenceError } from '../failure.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { checkPartitionKey } from '../state/keys.ts'

/** A request that may be appended. */
export interface AdmittedRequest {
  readonly type: string
  /** The version of the definition that lets it in. */
  readonly version: number
  /** JSON text, as it was sent. */
  readonly input: string
  /** JSON text of what the schema made of it, where that differs. */
  readonly output: string | undefined
  /** The partition key. */
  readonly key: string
}

/** What of a request's definition admission needs; those that operators may send have the version 1. */
export type Admitted = Pick<Request, 'name' | 'input' | 'key'> & Partial<Pick<Request, 'version'>>

/**
 * The definition that a request is sent to, one of the app or of those that operators may send.
 * @throws HenceError `unknown-request` (change)
 */
export function requestOf(app: App, type: string): Admitted {
  const request: Admitted | undefined = app.requests.get(type) ?? operatorRequests.get(type)
  if (request) return request
  throw new HenceError(
    'unknown-request',
    'change',
    `The app "${app.name}" has no request "${type}"; it has ${[...app.requests.keys()].join(', ')}.`,
  )
}

/** An input that is JSON. */
export interface Input {
  /** What identity compares, and what is stored. */
  readonly text: string
  /** What the text says. */
  readonly value: unknown
}

/** @throws HenceError `input-not-json`, `value-too-large` (change) */
export function inputOf(type: string, value: unknown): Input {
  try {
    const exact = mainRealm.check(value) ? value : mainRealm.seal(value)
    return { text: JSON.stringify(exact), value: exact }
  } catch (error) {
    if (error instanceof HenceError && error.code === 'value-too-large') throw error
    throw new HenceError(
      'input-not-json',
      'change',
      `The input of "${type}" is not JSON. ${(error as Error).message}`,
    )
  }
}

/**
 * Validates an input once and for all: a replay works from what this returns, without the schema.
 * @throws HenceError `input-invalid` with the schema's issues, `schema-unusable`, `key-invalid`, `key-too-long` (change)
 */
export function messageOf(request: Admitted, input: Input): AdmittedRequest {
  const { name: type, version = 1 } = request
  const result = request.input['~standard'].validate(input.value)
  if (result instanceof Promise) {
    throw new HenceError(
      'schema-unusable',
      'change',
      `The schema of "${type}" is asynchronous; only synchronous ones can be used.`,
    )
  }
  if (result.issues !== undefined) {
    throw new HenceError(
      'input-invalid',
      'change',
      `The input of "${type}" does not fit its schema: ${issuesText(result.issues)}.`,
    )
  }
  if (sameValue(input.value, result.value)) {
    return { type, version, input: input.text, output: undefined, key: keyOf(request, input.value) }
  }
  const value = sealed(type, result.value)
  const output = JSON.stringify(value)
  return {
    type,
    version,
    input: input.text,
    output: output === input.text ? undefined : output,
    key: keyOf(request, value),
  }
}

function sealed(type: string, value: unknown): unknown {
  try {
    return mainRealm.seal(value)
  } catch (error) {
    throw new HenceError(
      'schema-unusable',
      'change',
      `What the schema of "${type}" makes of its input is not JSON, so it cannot be stored. ${(error as Error).message}`,
    )
  }
}

/** Whether a schema left a value as it was, in whatever order it gives its fields. */
function sameValue(before: unknown, after: unknown): boolean {
  if (typeof before !== 'object' || before === null) return before === after
  if (before === after) return true
  if (typeof after !== 'object' || after === null) return false
  if (Object.getPrototypeOf(before) !== Object.getPrototypeOf(after)) return false
  const names = Object.keys(after)
  if (names.length !== Object.keys(before).length) return false
  for (const name of names) {
    if (!Object.hasOwn(before, name)) return false
    if (!sameValue((before as Fields)[name], (after as Fields)[name])) return false
  }
  return true
}

type Fields = Record<string, unknown>

function keyOf(request: Admitted, input: unknown): string {
  let key: unknown
  try {
    key = request.key(input)
  } catch (error) {
    throw new HenceError(
      'key-invalid',
      'change',
      `The \`key\` of request "${request.name}" threw: ${error}`,
      { cause: error },
    )
  }
  checkPartitionKey(key, `request "${request.name}"`)
  return key
}

/** Whether two messages are the same: by the canonical form (RFC 8785) of what was sent. */
export function sameMessage(
  a: { readonly type: string; readonly input: string },
  b: { readonly type: string; readonly input: string },
): boolean {
  if (a.type !== b.type) return false
  return a.input === b.input || canonicalize(JSON.parse(a.input)) === canonicalize(JSON.parse(b.input))
}
