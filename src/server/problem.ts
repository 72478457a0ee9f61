import type { Reply } from '../app/index.ts'
import { type HenceError, operatorError, shown } from '../failure.ts'
import type { Answer } from './answer.ts'

/**
 * An error as in RFC 9457. `type` is `urn:hence:error:` and the code; docs/reference/errors.md explains every
 * code. Programs match on `code`.
 */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly advice: string
  readonly [more: string]: unknown
}

/** Statuses that do not follow from the advice. */
const statuses: Readonly<Record<string, number>> = {
  'not-authenticated': 401,
  'not-allowed': 403,
  'origin-refused': 403,
  'host-refused': 403,
  'unknown-request': 404,
  'unknown-table': 404,
  'route-not-found': 404,
  'row-not-found': 404,
  'request-not-found': 404,
  'record-not-found': 404,
  'violation-not-found': 404,
  'console-not-built': 404,
  'audit-off': 404,
  'effect-not-found': 404,
  'reprocess-none': 404,
  'head-not-found': 404,
  'method-not-allowed': 405,
  'body-too-slow': 408,
  'reprocess-exists': 409,
  'reprocess-same-code': 409,
  'reprocess-paused': 409,
  'diff-unknown': 409,
  'log-shorter-than-head': 409,
  'request-id-expired': 410,
  'position-unknown': 410,
  'body-too-large': 413,
  'value-too-large': 413,
  'story-too-large': 422,
  'preview-too-long': 422,
  'media-type-unsupported': 415,
  'request-id-reused': 422,
  'request-id-from-the-future': 422,
  'input-invalid': 422,
  'key-invalid': 422,
  'key-too-long': 422,
  'code-not-kept': 422,
  'bundle-failed': 422,
  'schema-unusable': 500,
  'encoding-unsupported': 415,
  'too-many-streams': 429,
  'too-many-batches': 429,
  'engine-stopped': 503,
}
const byAdvice = { change: 400, retry: 503, operator: 500 } as const

/** How long a client should wait before it tries again, in seconds. */
const retryAfterSeconds = '1'

const statusOf = ({ code, advice }: HenceError): number => statuses[code] ?? byAdvice[advice]

export function problemOf(error: HenceError): Problem {
  return problemFor(error.code, error.advice, statusOf(error), error.message)
}

/** The problem for a request that a rule rejected, or whose derivation threw. */
export function problemOfOutcome(
  reply: Extract<Reply, { status: 'rejected' | 'failed' }>,
): Problem & { readonly outcome: string } {
  const { requestId, token, replayed, corrected } = reply
  const more = { outcome: reply.status, requestId, token, replayed, ...(corrected && { corrected }) }
  if (reply.status === 'failed') return { ...problemFor(reply.code, 'change', 500, reply.message), ...more }
  const { reason, details } = reply
  return {
    ...problemFor('rejected', 'change', 409, `The app refused the request: ${reason}.`),
    ...more,
    reason,
    ...(details !== undefined && { details }),
  }
}

/** A longer detail repeats input, for example in the message of a schema. */
const detailMax = 4_000

function problemFor(code: string, advice: string, status: number, message: string): Problem {
  const detail = shown(message, detailMax)
  const title = `${code[0]!.toUpperCase()}${code.slice(1).replaceAll('-', ' ')}`
  return { type: `urn:hence:error:${code}`, title, status, detail, code, advice }
}

export function problemAnswer(problem: Problem, headers: Readonly<Record<string, string>> = {}): Answer {
  return {
    status: problem.status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      ...(problem.status === 401 && { 'www-authenticate': 'Bearer' }),
      ...((problem.status === 503 || problem.status === 429) && { 'retry-after': retryAfterSeconds }),
      ...headers,
    },
    body: JSON.stringify(problem),
  }
}

/** The problem for an unexpected error: without its text, which may hold anything. */
export const unforeseen = () =>
  operatorError(
    'internal-error',
    'The server failed unexpectedly; its report has the reason. Send a request again with the same id to learn ' +
      'whether it was taken.',
  )
