import type { Enqueued, Reply } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { type Answer, notUnderstood, problemOf } from './exchange.ts'

/** What an answer means for the request that was sent; `Result` is what was asked for. */
export type Verdict<Result = Reply> =
  | { readonly kind: 'done'; readonly result: Result }
  /**
   * This try wrote nothing, and no later one will. `blind` when the server said so without looking whether it has
   * the id already, so that an earlier try may have been taken all the same.
   */
  | { readonly kind: 'refused'; readonly error: HenceError; readonly blind: boolean }
  /** Nothing follows from it: the same request must be sent again. `taken` tells what may have become of this try. */
  | { readonly kind: 'again'; readonly error: HenceError; readonly taken: 'no' | 'perhaps' }

/**
 * Reads an answer. Only what a Hence server says in its own form decides anything: a proxy, or the login page
 * of a network, must not be able to make a client drop what its user wished.
 */
export function verdictOf(requestId: string, answer: Answer): Verdict {
  const { status } = answer
  const body = fieldsOf(answer.body)
  const { token, replayed } = body
  // The id is compared so that no answer that was meant for another request, or was kept by a cache, counts.
  const ours = typeof token === 'string' && isId(body['requestId'], requestId)
  const common = { requestId, token: token as string, replayed: replayed === true }
  if (status === 200 && ours && body['status'] === 'accepted') {
    return { kind: 'done', result: { status: 'accepted', value: body['value'], ...common } }
  }
  const problem = problemOf(answer)
  if (problem === undefined) return again(answer)
  if (body['outcome'] !== undefined) return ours ? outcomeOf(answer, body, common) : again(answer)
  const isAboutIt = status !== 401 && !aboutTheWay.has(problem.code)
  if (!isAboutIt || problem.advice !== 'change') {
    const untouched = !isAboutIt || status === 429 || problem.code === 'overloaded'
    return { kind: 'again', error: problem, taken: untouched ? 'no' : 'perhaps' }
  }
  return { kind: 'refused', error: problem, blind: blindStatuses.has(status) }
}

/** Reads the answer to a request whose outcome was not waited for. */
export function enqueuedOf(requestId: string, answer: Answer): Verdict<Enqueued> {
  const { token, requestId: id } = fieldsOf(answer.body)
  if (answer.status === 202 && typeof token === 'string' && isId(id, requestId)) {
    return { kind: 'done', result: { requestId, token } }
  }
  return verdictOf(requestId, answer)
}

/** Permission, request type and age are judged before the id is looked up. */
const blindStatuses: ReadonlySet<number> = new Set([403, 404, 410])

/**
 * These say that somebody has set up the address, the page's origin or a proxy wrong, and nothing of the request: it must
 * not be lost to that. So it is with a missing login.
 */
const aboutTheWay: ReadonlySet<string> = new Set([
  'route-not-found',
  'method-not-allowed',
  'host-refused',
  'origin-refused',
])

function outcomeOf(answer: Answer, body: Fields, common: Omit<Reply, 'status'>): Verdict {
  const { outcome, reason, details, code, detail } = body
  if (answer.status === 409 && outcome === 'rejected' && typeof reason === 'string') {
    const more = details === undefined ? {} : { details: details as never }
    return { kind: 'done', result: { status: 'rejected', reason, ...more, ...common } as Reply }
  }
  if (answer.status === 500 && outcome === 'failed') {
    return { kind: 'done', result: { status: 'failed', code, message: detail, ...common } as Reply }
  }
  return again(answer)
}

function again(answer: Answer): Verdict {
  return { kind: 'again', error: notUnderstood(answer), taken: 'perhaps' }
}

/** UUIDs are the same in either case. */
function isId(told: unknown, requestId: string): boolean {
  return typeof told === 'string' && told.toLowerCase() === requestId.toLowerCase()
}

type Fields = Readonly<Record<string, unknown>>

function fieldsOf(body: unknown): Fields {
  return typeof body === 'object' && body !== null ? (body as Fields) : {}
}

/** Said when a request may have been taken, and the server will not tell. */
export function outcomeUnknown(requestId: string, refusal: HenceError): HenceError {
  return new HenceError(
    'outcome-unknown',
    'operator',
    `Request ${requestId} may have been taken by an earlier try whose answer was lost, and now the server refuses it: ` +
      `${refusal.message} Look at the data before you send the wish as a new request.`,
    { cause: refusal },
  )
}
