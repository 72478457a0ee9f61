import { HenceError, retryError } from '../failure.ts'
import { type Exchange, type HeaderFields, type HttpAnswer, retryAfterMs } from './exchange.ts'
import type { Verdict } from './verdict.ts'

/** A request as it is sent. */
interface Submission {
  readonly requestId: string
  readonly type: string
  /** JSON text. */
  readonly input: string
  readonly inReplyTo?: string | undefined
}

const quoted = (id: string) => `"${id.replace(/["\\]/g, '\\$&')}"`

export type Tried<Result> = Verdict<Result> & {
  /** The wait that the server asks for, in milliseconds. */
  readonly askedMs?: number
}

/**
 * Sends a request once. It never throws: a failure is a verdict too.
 * @param read interprets the answer: `verdictOf`, or `enqueuedOf` with the header `prefer: respond-async`
 */
export async function trySubmission<Result>(
  exchange: Exchange,
  { requestId, type, input, inReplyTo }: Submission,
  read: (requestId: string, answer: HttpAnswer) => Verdict<Result>,
  options: { readonly now: number; readonly signal: AbortSignal; readonly headers?: HeaderFields },
): Promise<Tried<Result>> {
  try {
    const answer = await exchange.ask({
      method: 'POST',
      path: `/requests/${encodeURIComponent(type)}`,
      headers: {
        'idempotency-key': quoted(requestId),
        ...(inReplyTo !== undefined && { 'hence-in-reply-to': quoted(inReplyTo) }),
        ...options.headers,
      },
      body: input,
      signal: options.signal,
    })
    exchange.learn(answer, options.now)
    const askedMs = retryAfterMs(answer, options.now)
    return { ...read(requestId, answer), ...(askedMs === undefined ? {} : { askedMs }) }
  } catch (error) {
    return { kind: 'again', error: asHenceError(error), taken: 'perhaps' }
  }
}

/** An error thrown by the caller's own `key`, `headers` or `fetch` is reported with its text. */
function asHenceError(error: unknown): HenceError {
  if (error instanceof HenceError) return error
  return retryError('server-unreachable', `The request could not be sent: ${error}.`, {
    cause: error,
  })
}
