import type { Answer } from './answer.ts'
import type { AskedRequest } from './asked.ts'

export interface Cors {
  readonly origins: readonly string[]
  readonly credentials?: boolean
}

const asks =
  'Authorization,Content-Type,Hence-Age-Max,Hence-In-Reply-To,Idempotency-Key,If-None-Match,Last-Event-ID,Prefer,' +
  'Traceparent,Tracestate'
const shows = 'ETag,Hence-Age,Hence-Diff,Hence-Outcome,Hence-Token,Idempotent-Replayed,Location,Retry-After'

/** Lets pages of some other origins use the server; see the Fetch standard. */
export function corsOf({ origins, credentials = false }: Cors) {
  const headersFor = ({ headers }: AskedRequest) => {
    const origin = headers.get('origin') ?? ''
    return {
      ...(origins.includes(origin) && { 'access-control-allow-origin': origin }),
      ...(credentials && { 'access-control-allow-credentials': 'true' }),
      'access-control-expose-headers': shows,
      vary: 'Origin',
    }
  }
  return {
    /** The answer to a browser that asks before it sends; undefined for any other request. */
    preflight(request: AskedRequest): Answer | undefined {
      if (request.method !== 'OPTIONS') return undefined
      const headers = {
        ...headersFor(request),
        'access-control-max-age': '600',
        'access-control-allow-methods': 'GET,POST',
        'access-control-allow-headers': asks,
        vary: 'Origin, Access-Control-Request-Headers',
      }
      return { status: 204, headers, body: null }
    },
    /** The answer, so that a page of such an origin may read it. */
    opened(request: AskedRequest, answer: Answer): Answer {
      const opening = headersFor(request)
      const { vary } = answer.headers
      const both = vary === undefined ? opening : { ...opening, vary: `${vary}, ${opening.vary}` }
      return { ...answer, headers: { ...answer.headers, ...both } }
    },
  }
}
