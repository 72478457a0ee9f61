import canonicalize from 'canonicalize'
import type { App, Request } from '../app/index.ts'
import { issuesText } from '../app/schema.ts'
import { mainRealm } from '../derivation/realm.ts'
import { checkPartitionKey } from '../derivation/transaction.ts'
import { HenceError } from '../failure.ts'

/** A request that may be appended. */
export interface Message {
  readonly type: string
  /** JSON text, as it was sent. */
  readonly input: string
  /** JSON text of what the schema made of it, where that differs. */
  readonly output: string | undefined
  /** The partition key. */
  readonly key: string
}

/**
 * The definition that a request is sent to.
 * @throws HenceError `unknown-request` (change)
 */
export function requestOf(app: App, type: string): Request {
  const request = app.requests.get(type)
  if (request) return request
  throw new HenceError(
    'unknown-request',
    'change',
    `The app "${app.name}" has no request "${type}"; it has ${[...app.requests.keys()].join(', ')}.`,
  )
}

/**
 * The input as JSON text: what identity compares, and what is stored.
 * @throws HenceError `input-not-json`, `value-too-large` (change)
 */
export function inputText(type: string, input: unknown): string {
  try {
    return JSON.stringify(mainRealm.seal(input))
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
 * @param text the input as JSON
 * @throws HenceError `input-invalid` with the schema's issues, `schema-unusable`, `key-invalid`, `key-too-long` (change)
 */
export function messageOf(request: Request, text: string): Message {
  const type = request.name
  const result = request.input['~standard'].validate(JSON.parse(text))
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
  let value: unknown
  try {
    value = mainRealm.seal(result.value)
  } catch (error) {
    throw new HenceError(
      'schema-unusable',
      'change',
      `What the schema of "${type}" makes of its input is not JSON, so it cannot be stored. ${(error as Error).message}`,
    )
  }
  const output = JSON.stringify(value)
  return { type, input: text, output: output === text ? undefined : output, key: keyOf(request, value) }
}

function keyOf(request: Request, input: unknown): string {
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
