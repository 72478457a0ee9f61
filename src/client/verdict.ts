import type { Enqueued, Outcome, Reply } from '../app/index.ts'
import { type HenceError, operatorError } from '../failure.ts'
import { fieldsOf, type HttpAnswer, notUnderstood, problemOf } from './exchange.ts'

/** The meaning of an answer for the request that was sent; `Result` is its value. */
export type Verdict<Result = Reply> =
  | { readonly kind: 'done'; readonly result: Result }
  /**
   * This try wrote nothing, and no later one will. `blind` if the server refused before it looked the id up,
   * so that an earlier try may still have been accepted.
   */
  | { readonly kind: 'refused'; readonly error: HenceError; readonly blind: boolean }
  /** Nothing is decided: send the same request again. `taken` says whether this try may have been accepted. */
  | { readonly kind: 'again'; readonly error: HenceError; readonly taken: 'no' | 'perhaps' }

/** A 4xx answer that is no outcome. */
export interface Refused {
  readonly status: number
  /** The code of Hence's error; undefined if the answer is not Hence's own, but for example that of a proxy. */
  readonly code: string | undefined
}

/**
 * Interprets an answer. Only an answer in Hence's own form decides anything: a proxy, or the login page of a
 * network, must not make a client drop its user's request.
 * @param isFinal decides about a refusal otherwise; undefined: as Hence does
 */
export function verdictOf(
  requestId: string,
  answer: HttpAnswer,
  isFinal: (refused: Refused) => boolean | undefined = () => undefined,
): Verdict {
  const { status } = answer
  const body = fieldsOf(answer.body)
  const { token, replayed } = body
  // The id is compared so that an answer to another request, or one from a cache, does not count.
  const ours = typeof token === 'string' && isId(body['requestId'], requestId)
  const common = {
    requestId,
    token: token as string,
    replayed: replayed === true,
    ...(isOutcome(body['corrected']) && { corrected: body['corrected'] }),
  }
  if (status === 200 && ours && body['status'] === 'accepted') {
    return { kind: 'done', result: { status: 'accepted', value: body['value'], ...common } }
  }
  const problem = problemOf(answer)
  if (problem && body['outcome'] !== undefined) return ours ? outcomeOf(answer, common) : again(answer)
  const isAboutIt = problem !== undefined && status !== 401 && !aboutTheWay.has(problem.code)
  // The id was made by a clock that is ahead: later it is an id like others.
  if (problem?.code === 'request-id-from-the-future') return { kind: 'again', error: problem, taken: 'no' }
  const wroteNothing = isAboutIt && problem.advice === 'change'
  const given = status >= 400 && status < 500 ? isFinal({ status, code: problem?.code }) : undefined
  if (given ?? wroteNothing) {
    const blind = !wroteNothing || blindStatuses.has(status)
    return { kind: 'refused', error: problem ?? notUnderstood(answer), blind }
  }
  if (problem === undefined) return again(answer)
  const untouched = wroteNothing || !isAboutIt || status === 429 || problem.code === 'overloaded'
  return { kind: 'again', error: problem, taken: untouched ? 'no' : 'perhaps' }
}

/** Interprets the answer to a request that did not wait for its outcome. */
export function enqueuedOf(requestId: string, answer: HttpAnswer): Verdict<Enqueued> {
  const { token, requestId: id } = fieldsOf(answer.body)
  if (answer.status === 202 && typeof token === 'string' && isId(id, requestId)) {
    return { kind: 'done', result: { requestId, token } }
  }
  return verdictOf(requestId, answer)
}

/** Permission, request type and age are checked before the id is looked up. */
const blindStatuses: ReadonlySet<number> = new Set([403, 404, 410])

/** These mean that the address, the origin or a proxy is set up wrong, and say nothing about the request. */
const aboutTheWay = new Set(['route-not-found', 'method-not-allowed', 'host-refused', 'origin-refused'])

function outcomeOf(answer: HttpAnswer, common: Omit<Reply, 'status'>): Verdict {
  const { outcome, reason, details, code, detail } = fieldsOf(answer.body)
  if (answer.status === 409 && outcome === 'rejected' && typeof reason === 'string') {
    const more = details === undefined ? {} : { details: details as never }
    return { kind: 'done', result: { status: 'rejected', reason, ...more, ...common } as Reply }
  }
  if (answer.status === 500 && outcome === 'failed') {
    return { kind: 'done', result: { status: 'failed', code, message: detail, ...common } as Reply }
  }
  return again(answer)
}

function again(answer: HttpAnswer): Verdict {
  return { kind: 'again', error: notUnderstood(answer), taken: 'perhaps' }
}

function isOutcome(value: unknown): value is Outcome {
  const { status } = fieldsOf(value)
  return status === 'accepted' || status === 'rejected' || status === 'failed'
}

/** UUIDs are the same in either case. */
function isId(told: unknown, requestId: string): boolean {
  return typeof told === 'string' && told.toLowerCase() === requestId.toLowerCase()
}

/** The error when a request may have been accepted and the server will not say. */
export const outcomeUnknown = (requestId: string, refusal: HenceError) =>
  operatorError(
    'outcome-unknown',
    `Request ${requestId} may have been accepted in an earlier try whose answer was lost, and now the server ` +
      `refuses it: ${refusal.message} Look at the data before you send it as a new request.`,
    { cause: refusal },
  )
