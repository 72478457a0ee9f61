import { HenceError, retryError } from '../failure.ts'
import { type Exchange, type HeaderFields, type HttpAnswer, retryAfterMs } from './exchange.ts'
import type { Verdict } from './verdict.ts'

interface Submission {
  readonly requestId: string
  readonly type: string
  readonly input: string
  readonly inReplyTo?: string | undefined
}

const quoted = (id: string) => `"${id.replace(/["\\]/g, '\\$&')}"`

export type Tried<Result> = Verdict<Result> & {
  /** The wait that the server asks for, in milliseconds. */
  readonly askedMs?: number
}

/** Sends a request once. It never throws: a failure is a verdict too. `read` interprets the answer. */
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
  } catch (thrown) {
    // The caller's own `key`, `headers` or `fetch` may throw anything.
    const error =
      thrown instanceof HenceError
        ? thrown
        : retryError('server-unreachable', `The request could not be sent: ${thrown}.`, { cause: thrown })
    return { kind: 'again', error, taken: 'perhaps' }
  }
}
