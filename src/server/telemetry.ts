import type { Context, Span, Tracer } from '@opentelemetry/api'
import type { Answer } from './answer.ts'
import type { AskedRequest } from './asked.ts'

export interface Tracing {
  run(request: AskedRequest, route: string, handle: () => Promise<Answer>): Promise<Answer>
}

/**
 * OpenTelemetry, if the host has it: one span per request, which continues the caller's `traceparent` and
 * carries the request id. The package is an optional peer; without it nothing is traced.
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
  const carrier = {
    get: (headers: AskedRequest['headers'], name: string) => headers.get(name) ?? undefined,
    keys: () => [],
  }
  return {
    run(request, route, handle) {
      const parent: Context = propagation.extract(context.active(), request.headers, carrier)
      const method = request.method
      const span: Span = tracer.startSpan(
        `${method} ${route}`,
        { kind: SpanKind.SERVER, attributes: { 'http.request.method': method, 'http.route': route } },
        parent,
      )
      // Without a provider no span is recorded, so the rest is skipped.
      if (!span.isRecording()) return handle()
      return context.with(trace.setSpan(parent, span), async () => {
        try {
          const answer = await handle()
          const requestId = request.headers.get('idempotency-key')
          if (requestId !== null) span.setAttribute('hence.request_id', requestId.replace(/^"(.*)"$/, '$1'))
          span.setAttribute('http.response.status_code', answer.status)
          for (const name of ['hence-token', 'hence-outcome']) {
            const value = answer.headers[name]
            if (value !== undefined) span.setAttribute(name.replace('-', '.'), value)
          }
          if (answer.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
          return answer
        } finally {
          span.end()
        }
      })
    },
  }
}
