import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { cors as corsHeaders } from 'hono/cors'
import type { App } from '../app/index.ts'
import { type Clock, systemClock } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import { printReport, type Reporter } from '../report.ts'
import { Activity } from './activity.ts'
import { type Answer, responseOf, writeAnswer } from './answer.ts'
import { type Authenticate, authenticator, isLoopback } from './authenticate.ts'
import { closingSoon } from './batch.ts'
import { BodyReader } from './body.ts'
import { Keys } from './keys.ts'
import { type Limits, limitsOf } from './limits.ts'
import { Listener, type Listening } from './listen.ts'
import { Metrics } from './metrics.ts'
import { problemAnswer, problemOf, unforeseen } from './problem.ts'
import { arrivalOf, type Carrier, type Route, routes } from './routes.ts'
import { RowRules } from './row-rules.ts'
import type { Serving } from './serving.ts'
import { openTelemetry, type Tracing } from './telemetry.ts'

export interface ServerOptions {
  /** The host's own sessions or tokens. */
  readonly authenticate?: Authenticate
  /** The file of API keys, conventionally `keys.json` in the data directory; asked before `authenticate`. */
  readonly keys?: string
  /** The path that the server is mounted at, where the host leaves it in the address: `/hence`. Default: none. */
  readonly path?: string
  /** Pages of which other origins may use the server. Default: none. */
  readonly cors?: { readonly origins: readonly string[]; readonly credentials?: boolean }
  readonly limits?: Partial<Limits>
  /** Hears what an operator should know; no secret ever. Default: warnings and alarms go to standard error. */
  readonly report?: Reporter
  readonly clock?: Clock
}

/** An engine over HTTP. */
export interface Server {
  /** Answers a request; for hosts that speak `fetch`, such as Hono and Next. */
  fetch(request: Request): Promise<Response>
  /**
   * Answers a request of Node's own server; for Express, Fastify and the like. Paths that are none of the server's go
   * to `next`. It must come before whatever reads the body.
   */
  node(request: IncomingMessage, response: ServerResponse, next?: () => void): void
  /**
   * Listens by itself.
   * @throws HenceError `listen-unsafe` (change) on an address beyond this machine without `keys` or `authenticate`,
   *   `listen-failed` (operator)
   */
  listen(options?: { readonly port?: number; readonly host?: string }): Promise<Listening>
  /** Takes nothing more, finishes what is under way, ends streams, and stops listening. The engine stays open. */
  close(): Promise<void>
}

/**
 * Serves an engine over HTTP; see docs/reference/http.md for its routes.
 * @throws HenceError `option-invalid` (change)
 */
export function server<A extends App>(engine: Engine<A>, options: ServerOptions = {}): Server {
  const { clock = systemClock, report = printReport, authenticate, path = '' } = options
  if (!/^(\/[\w.~-]+)*$/.test(path)) {
    throw new HenceError(
      'option-invalid',
      'change',
      `\`path\` must be like "/hence", without a slash at its end, not ${JSON.stringify(path)}.`,
    )
  }
  const limits = limitsOf(options.limits)
  const closing = new AbortController()
  const activity = new Activity()
  const metrics = new Metrics()
  const serving: Serving = {
    engine: engine as never,
    path,
    limits,
    clock,
    report,
    bodies: new BodyReader(limits),
    rules: new RowRules(engine, report),
    activity,
    closing: closing.signal,
  }
  const keys = options.keys === undefined ? undefined : new Keys(options.keys, clock, report)
  const callerOf = authenticator({ authenticate, keys, origins: options.cors?.origins ?? [] })
  let tracing: Tracing | undefined
  void openTelemetry().then((found) => {
    tracing = found
  })

  const answer = async (route: Route, request: Request, carrier: Carrier): Promise<Answer> => {
    activity.begin()
    let told: Answer
    try {
      const arrival = arrivalOf(request, path)
      if (route.access === 'open') {
        told = await route.handle(arrival, nobody)
      } else {
        if (closing.signal.aborted) throw closingSoon()
        told = await route.handle(arrival, await callerOf(request, carrier.incoming))
      }
    } catch (error) {
      told = refusal(error)
    } finally {
      activity.end()
    }
    metrics.count(route, told.status)
    return told
  }
  const refusal = (error: unknown): Answer => {
    const known = error instanceof HenceError
    if (!known) {
      report({ level: 'alarm', code: 'internal-error', message: `A request over HTTP failed: ${error}` })
    }
    return problemAnswer(problemOf(known ? error : unforeseen()))
  }

  const hono = new Hono<{ Bindings: Carrier }>({ strict: true })
  if (options.cors) hono.use(corsFor(options.cors))
  const table = routes(serving, metrics)
  for (const route of table) {
    const { method, path: below } = route
    hono.on(method, path + below, async (context) => {
      const request = context.req.raw
      const carrier = context.env
      const told = await (tracing === undefined
        ? answer(route, request, carrier)
        : tracing.run(request, below, () => answer(route, request, carrier)))
      return deliver(told, request, carrier)
    })
  }
  const deliver = (told: Answer, { method }: Request, { outgoing }: Carrier): Response => {
    // Hono makes the answer to HEAD of a response, and adds CORS headers to one.
    if (outgoing === undefined || method === 'HEAD' || options.cors) return responseOf(told)
    writeAnswer(outgoing, told)
    return RESPONSE_ALREADY_SENT
  }
  hono.notFound((context) => deliver(nowhere(table, path, context.req.path), context.req.raw, context.env))
  hono.onError((error) => responseOf(refusal(error)))

  const node = getRequestListener((request, env) => hono.fetch(request, env as Carrier), {
    // A library does not put its own `Request` and `Response` in the place of the host's.
    overrideGlobalObjects: false,
    errorHandler: () => responseOf(problemAnswer(problemOf(badAddress()))),
  })
  let listener: Listener | undefined
  let closed: Promise<void> | undefined
  return {
    fetch: async (request) => hono.fetch(request, {}),
    node(request, response, next) {
      if (next !== undefined && !isOurs(request.url ?? '', path)) return next()
      if (request.readableDidRead) {
        writeAnswer(response, problemAnswer(problemOf(bodyIsGone())))
        return
      }
      void node(request, response)
    },
    async listen({ port = 0, host = '127.0.0.1' } = {}) {
      if (authenticate === undefined && keys === undefined) checkUnguarded(host)
      listener = new Listener((request, response) => void node(request, response), limits)
      return listener.open(host, port)
    },
    close() {
      closed ??= (async () => {
        closing.abort()
        listener?.stop()
        const isIdle = await activity.idle(limits.drainMs)
        await listener?.end(isIdle ? 1_000 : 0)
      })()
      return closed
    },
  }
}

const nobody = { principal: '', permissions: [] }

function corsFor({ origins, credentials }: NonNullable<ServerOptions['cors']>) {
  return corsHeaders({
    origin: [...origins],
    allowMethods: ['GET', 'POST'],
    allowHeaders: [
      'Authorization',
      'Content-Type',
      'Idempotency-Key',
      'If-None-Match',
      'Last-Event-ID',
      'Prefer',
      'Traceparent',
      'Tracestate',
    ],
    exposeHeaders: [
      'ETag',
      'Hence-Diff',
      'Hence-Outcome',
      'Hence-Token',
      'Idempotent-Replayed',
      'Location',
      'Retry-After',
    ],
    maxAge: 600,
    ...(credentials !== undefined && { credentials }),
  })
}

const firstParts = new Set([
  'requests',
  'tables',
  'changes',
  'effects',
  'reprocess',
  'audit',
  'openapi.json',
  'metrics',
  'livez',
  'readyz',
])

function isOurs(url: string, path: string): boolean {
  if (!url.startsWith(`${path}/`)) return false
  return firstParts.has(url.slice(path.length + 1).split(/[/?#]/, 1)[0]!)
}

/** The answer to what no route takes. */
function nowhere(table: readonly Route[], path: string, at: string): Answer {
  const methods = table
    .filter((route) =>
      new RegExp(`^${path}${route.path.replace(/:[a-z]+/g, '[^/]+').replace('*', '.+')}$`).test(at),
    )
    .map(({ method }) => method)
  if (methods.length === 0) return problemAnswer(problemOf(noRoute()))
  const error = new HenceError(
    'method-not-allowed',
    'change',
    `This address takes ${methods.join(' and ')}, nothing else.`,
  )
  return problemAnswer(problemOf(error), { allow: methods.join(', ') })
}

function noRoute(): HenceError {
  return new HenceError(
    'route-not-found',
    'change',
    'There is nothing at this address; /openapi.json tells what there is.',
  )
}

function badAddress(): HenceError {
  return new HenceError('url-invalid', 'change', 'The address or the header Host makes no sense.')
}

function bodyIsGone(): HenceError {
  return new HenceError(
    'body-already-read',
    'operator',
    'Something has read the body before Hence got it, so it cannot be taken as it was sent. Mount Hence before body parsers.',
  )
}

/**
 * Whoever asks nobody who he is may be reached from this machine only.
 * @throws HenceError `listen-unsafe` (change)
 */
export function checkUnguarded(host: string): void {
  if (isLoopback(host)) return
  throw new HenceError(
    'listen-unsafe',
    'change',
    `Without keys or \`authenticate\`, everybody who reaches ${host} could do everything. Set one of them, or listen on ` +
      '127.0.0.1.',
  )
}
