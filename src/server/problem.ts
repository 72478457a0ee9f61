import type { Reply } from '../app/index.ts'
import { type HenceError, operatorError, shown } from '../failure.ts'
import type { Answer } from './answer.ts'

/** An error as in RFC 9457. `type` is `urn:hence:error:` and the code, on which programs match. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly advice: string
  readonly [more: string]: unknown
}

/** Codes whose status does not follow from their advice. */
const codes: Readonly<Record<number, readonly string[]>> = {
  401: ['not-authenticated'],
  403: ['not-allowed', 'origin-refused', 'host-refused'],
  404: [
    ...['unknown-request', 'unknown-table', 'route-not-found', 'row-not-found', 'request-not-found'],
    ...['record-not-found', 'no-state', 'violation-not-found', 'console-not-built', 'audit-off'],
    ...['effect-not-found', 'reprocess-none', 'head-not-found'],
  ],
  405: ['method-not-allowed'],
  408: ['body-too-slow'],
  409: [
    ...['reprocess-exists', 'reprocess-same-code', 'reprocess-paused', 'diff-unknown'],
    ...['log-shorter-than-head'],
  ],
  410: ['request-id-expired', 'position-unknown'],
  413: ['body-too-large', 'value-too-large'],
  415: ['media-type-unsupported', 'encoding-unsupported'],
  422: [
    ...['story-too-large', 'preview-too-long', 'past-too-far', 'request-id-reused'],
    ...['request-id-from-the-future', 'input-invalid', 'key-invalid', 'key-too-long', 'code-not-kept'],
    ...['bundle-failed'],
  ],
  429: ['too-many-streams', 'too-many-batches'],
  500: ['schema-unusable'],
  503: ['engine-stopped'],
}
const statuses = new Map(
  Object.entries(codes).flatMap(([status, some]) => some.map((code) => [code, Number(status)])),
)
const byAdvice = { change: 400, retry: 503, operator: 500 } as const

/** How long a client should wait before it tries again, in seconds. */
const retryAfterSeconds = '1'

export function problemOf({ code, advice, message }: HenceError): Problem {
  return problemFor(code, advice, statuses.get(code) ?? byAdvice[advice], message)
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
  const words = code.replaceAll('-', ' ').replace(/\b(json|url)\b/g, (word) => word.toUpperCase())
  const title = `${words[0]!.toUpperCase()}${words.slice(1)}`
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
