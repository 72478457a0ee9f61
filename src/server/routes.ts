import type { IncomingMessage, ServerResponse } from 'node:http'
import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { consistency, head } from './audit.ts'
import { batch } from './batch.ts'
import { allows, type Caller } from './caller.ts'
import { ChangeStreams } from './changes.ts'
import { Cursors } from './cursor.ts'
import { effect, effects } from './effects.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Metrics } from './metrics.ts'
import { openApi } from './openapi.ts'
import { receipt } from './receipt.ts'
import * as reprocess from './reprocess.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'
import { story } from './story.ts'
import { submit } from './submit.ts'
import { page, row } from './tables.ts'

/** A request as the routes see it. */
export interface Arrival {
  readonly request: Request
  /** The parts of the path behind the route's own first one, decoded. */
  readonly rest: readonly string[]
  readonly query: URLSearchParams
}

export interface Route {
  readonly method: 'GET' | 'POST'
  /** Below the path that the server is mounted at, in Hono's form. */
  readonly path: string
  /**
   * `open` to everybody, also while the server closes; `known`: whoever is let in at all, though what they are
   * shown depends on their permissions.
   */
  readonly access: 'open' | 'known'
  handle(arrival: Arrival, caller: Caller): Answer | Promise<Answer>
}

/** All that the server answers, and nothing else. */
export function routes(serving: Serving, metrics: Metrics): readonly Route[] {
  const { engine, clock, closing } = serving
  const streams = new ChangeStreams(serving)
  const cursors = new Cursors()
  let document: { readonly version: string; readonly content: unknown } | undefined
  return [
    {
      method: 'POST',
      path: '/requests/:name',
      access: 'known',
      async handle({ request, rest }, caller) {
        const start = performance.now()
        const response = await submit(serving, caller, request, rest[0]!)
        metrics.submitted(performance.now() - start)
        return response
      },
    },
    {
      method: 'POST',
      path: '/requests',
      access: 'known',
      handle: ({ request }, caller) => batch(serving, caller, request),
    },
    {
      method: 'GET',
      path: '/requests/:name',
      access: 'known',
      handle: ({ request, rest, query }, caller) => story(serving, caller, request, rest[0]!, query),
    },
    {
      method: 'GET',
      path: '/requests/:name/receipt',
      access: 'known',
      handle: ({ request, rest, query }, caller) => receipt(serving, caller, request, rest[0]!, query),
    },
    {
      method: 'GET',
      path: '/tables/:name',
      access: 'known',
      handle: ({ request, rest, query }, caller) => page(serving, cursors, caller, request, rest[0]!, query),
    },
    {
      method: 'GET',
      path: '/tables/:name/*',
      access: 'known',
      handle: ({ request, rest, query }, caller) =>
        row(serving, caller, request, rest[0]!, rest.slice(1), query),
    },
    {
      method: 'GET',
      path: '/changes',
      access: 'known',
      handle: ({ request, query }, caller) => streams.start(caller, request, query),
    },
    {
      method: 'GET',
      path: '/effects',
      access: 'known',
      handle: ({ request, query }, caller) => effects(serving, caller, request, query),
    },
    {
      method: 'GET',
      path: '/effects/:name',
      access: 'known',
      handle: ({ request, rest }, caller) => effect(serving, caller, request, rest[0]!),
    },
    // What they disclose, every receipt does too: how many records there are.
    { method: 'GET', path: '/audit/head', access: 'known', handle: ({ request }) => head(serving, request) },
    {
      method: 'GET',
      path: '/audit/consistency',
      access: 'known',
      handle: ({ request, query }) => consistency(serving, request, query),
    },
    {
      method: 'GET',
      path: '/reprocess',
      access: 'known',
      handle: ({ request }, caller) => reprocess.generations(serving, caller, request),
    },
    {
      method: 'POST',
      path: '/reprocess',
      access: 'known',
      handle: ({ request }, caller) => reprocess.start(serving, caller, request),
    },
    ...(['pause', 'resume'] as const).map(
      (what): Route => ({
        method: 'POST',
        path: `/reprocess/${what}`,
        access: 'known',
        handle: ({ request }, caller) => reprocess.pauseOrResume(serving, caller, request, what),
      }),
    ),
    {
      method: 'POST',
      path: '/reprocess/discard',
      access: 'known',
      handle: ({ request }, caller) => reprocess.discard(serving, caller, request),
    },
    {
      method: 'GET',
      path: '/reprocess/diff',
      access: 'known',
      handle: ({ request, query }, caller) => reprocess.diff(serving, caller, request, query),
    },
    {
      method: 'POST',
      path: '/reprocess/promote',
      access: 'known',
      handle: ({ request }, caller) => reprocess.promote(serving, caller, request),
    },
    {
      method: 'GET',
      path: '/openapi.json',
      access: 'known',
      handle({ request }) {
        const { version } = engine.stats()
        if (document?.version !== version) {
          document = { version, content: openApi(engine.app, serving.path, version, serving.limits) }
        }
        return jsonAnswer(request, document.content)
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      access: 'known',
      async handle(_, caller) {
        if (!allows(caller, 'operate')) throw notAllowed('operate', 'metrics')
        const { reprocessing } = engine
        const told = metrics.text(engine.stats(), await reprocessing.status(), clock.now(), streams.open)
        return text(200, told, 'text/plain; version=0.0.4')
      },
    },
    // The process lives as long as it answers at all.
    { method: 'GET', path: '/livez', access: 'open', handle: () => text(200, 'live\n') },
    {
      method: 'GET',
      path: '/readyz',
      access: 'open',
      handle: () => (closing.aborted ? text(503, 'closing\n', undefined, '1') : text(200, 'ready\n')),
    },
  ]
}

function text(status: number, body: string, type = 'text/plain; charset=utf-8', retryAfter?: string): Answer {
  return {
    status,
    headers: {
      'content-type': type,
      'cache-control': 'no-store',
      ...(retryAfter && { 'retry-after': retryAfter }),
    },
    body,
  }
}

/** What stands behind the mount path and the first part of the route, and behind the question mark. */
export function arrivalOf(request: Request, path: string): Arrival {
  const { url } = request
  // Behind `https://host`: a path begins with the third slash.
  const start = url.indexOf('/', url.indexOf('//') + 2) + path.length
  const mark = url.indexOf('?', start)
  const hash = url.indexOf('#', start)
  const end = Math.min(mark === -1 ? url.length : mark, hash === -1 ? url.length : hash)
  const segments = url.slice(start + 1, end).split('/')
  try {
    return {
      request,
      rest: segments.slice(1).map(decodeURIComponent),
      query: mark === -1 ? none : new URLSearchParams(url.slice(mark + 1, hash > mark ? hash : undefined)),
    }
  } catch {
    throw new HenceError('url-invalid', 'change', 'The path of the address is not percent-encoded UTF-8.')
  }
}

const none = new URLSearchParams()

/** What the adapter for Node hands over beside the request. */
export interface Carrier {
  readonly incoming?: IncomingMessage
  readonly outgoing?: ServerResponse
}
