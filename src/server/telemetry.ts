import type { Context, Span, Tracer } from '@opentelemetry/api'

/** A span around the handling of one request. */
export interface Tracing {
  run(request: Request, route: string, handle: () => Promise<Response>): Promise<Response>
}

/**
 * OpenTelemetry where the host has it: a span a request, which continues the caller's `traceparent` and carries the
 * request id. The package is an optional peer; without it nothing is traced.
 */
export async function openTelemetry(): Promise<Tracing | undefined> {
  let api: typeof import('@opentelemetry/api')
  try {
    api = await import('@opentelemetry/api')
  } catch {
    return undefined
  }
  const { context, propagation, trace, SpanKind, SpanStatusCode } = api
  const tracer: Tracer = trace.getTracer('hence')
  const carrier = { get: (headers: Headers, name: string) => headers.get(name) ?? undefined, keys: () => [] }
  return {
    async run(request, route, handle) {
      const parent: Context = propagation.extract(context.active(), request.headers, carrier)
      const method = request.method
      const span: Span = tracer.startSpan(
        `${method} ${route}`,
        { kind: SpanKind.SERVER, attributes: { 'http.request.method': method, 'http.route': route } },
        parent,
      )
      try {
        const response = await context.with(trace.setSpan(parent, span), handle)
        span.setAttribute('http.response.status_code', response.status)
        const requestId = request.headers.get('idempotency-key')
        if (requestId !== null) span.setAttribute('hence.request_id', requestId.replace(/^"(.*)"$/, '$1'))
        for (const name of ['hence-token', 'hence-outcome']) {
          const value = response.headers.get(name)
          if (value !== null) span.setAttribute(name.replace('-', '.'), value)
        }
        if (response.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
        return response
      } finally {
        span.end()
      }
    },
  }
}
