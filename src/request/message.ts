import type { App, Request, Schema } from '../app/index.ts'
import { issuesText, type Validated } from '../app/schema.ts'
import { operatorRequests } from '../derivation/operator.ts'
import { changeError, HenceError, shown } from '../failure.ts'
import type { Program } from '../sandbox/program.ts'
import type { Realm } from '../sandbox/realm.ts'
import { checkPartitionKey } from '../state/keys.ts'

/** A validated request, ready to be appended. */
export interface AdmittedRequest {
  readonly type: string
  /** The version of the definition that validated it. */
  readonly version: number
  /** JSON text, as it was sent. */
  readonly input: string
  /** JSON text of the schema's output, where it differs. */
  readonly output: string | undefined
  readonly key: string
  readonly inReplyTo?: string
  /** The value of `output` or else `input`, which a derivation in the same realm need not parse. */
  readonly parsed: { readonly realm: Realm; readonly value: unknown }
}

/** The part of a request's definition that admission needs; operator requests have the version 1. */
export type AdmittedDefinition = Pick<Request, 'name' | 'input' | 'key'> & Partial<Pick<Request, 'version'>>

/** The definition of a request: one of the app's or an operator request. */
export function requestOf(app: App, type: string): AdmittedDefinition {
  const request: AdmittedDefinition | undefined = app.requests.get(type) ?? operatorRequests.get(type)
  if (request) return request
  throw changeError(
    'unknown-request',
    `The app "${app.name}" has no request "${shown(`${type}`)}"; it has ${[...app.requests.keys()].join(', ')}.`,
  )
}

/** A request of an operator, as it would be admitted. */
export function operatorMessage(type: string, input: unknown, { app, realm }: Program): AdmittedRequest {
  if (app.requests.has(type))
    throw changeError(
      'unknown-request',
      `"${type}" is a request of the app; operators' requests have previews.`,
    )
  return messageOf(requestOf(app, type), inputOf(type, input, realm), realm)
}

/** An input that was checked to be JSON. */
export interface Input {
  /** The stored text, which a retry is compared with. */
  readonly text: string
  readonly value: unknown
}

/** @param realm that of the app: its schemas get values of their own realm */
export function inputOf(type: string, value: unknown, realm: Realm): Input {
  try {
    const sealed = realm.seal(value)
    return { text: JSON.stringify(sealed), value: sealed }
  } catch (error) {
    if (error instanceof HenceError && error.code === 'value-too-large') throw error
    throw changeError('input-not-json', `The input of "${type}" is not JSON. ${(error as Error).message}`)
  }
}

/** Validates an input. This happens once: replays use the stored output and not the schema. */
export function messageOf(request: AdmittedDefinition, input: Input, realm: Realm): AdmittedRequest {
  const { name: type, version = 1 } = request
  const result = validated(type, request.input, input.value)
  if (result.issues !== undefined) {
    throw changeError(
      'input-invalid',
      `The input of "${type}" does not fit its schema: ${issuesText(result.issues)}.`,
    )
  }
  const isSame = sameValue(input.value, result.value)
  const value = isSame ? input.value : sealed(type, result.value, realm)
  const output = isSame ? input.text : JSON.stringify(value)
  return {
    type,
    version,
    input: input.text,
    output: output === input.text ? undefined : output,
    key: keyOf(request, value),
    parsed: { realm, value },
  }
}

/** The realm has no promises, so a schema that is asynchronous throws. */
function validated(type: string, schema: Schema, value: unknown): Validated {
  try {
    return schema['~standard'].validate(value) as Validated
  } catch (error) {
    const why = error instanceof HenceError ? error.message : String(error)
    throw changeError('schema-unusable', `The schema of "${type}" threw: ${why}`, { cause: error })
  }
}

function sealed(type: string, value: unknown, realm: Realm): unknown {
  try {
    return realm.seal(value)
  } catch (error) {
    throw changeError(
      'schema-unusable',
      `The output of the schema of "${type}" is not JSON, so it cannot be stored. ${(error as Error).message}`,
    )
  }
}

/** Whether a schema left a value unchanged, apart from the order of its fields. */
function sameValue(before: unknown, after: unknown): boolean {
  if (typeof before !== 'object' || before === null) return before === after
  if (before === after) return true
  if (typeof after !== 'object' || after === null) return false
  if (Object.getPrototypeOf(before) !== Object.getPrototypeOf(after)) return false
  const [names, old] = [Object.keys(after), Object.keys(before)]
  if (names.length !== old.length) return false
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!
    // Most schemas keep the order too.
    if (name !== old[i] && !Object.hasOwn(before, name)) return false
    if (!sameValue((before as Record<string, unknown>)[name], (after as Record<string, unknown>)[name]))
      return false
  }
  return true
}

function keyOf(request: AdmittedDefinition, input: unknown): string {
  let key: unknown
  try {
    key = request.key(input)
  } catch (error) {
    throw changeError('key-invalid', `The \`key\` of request "${request.name}" threw: ${error}`, {
      cause: error,
    })
  }
  checkPartitionKey(key, `request "${request.name}"`)
  return key
}
