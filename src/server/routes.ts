import type { Answer } from './answer.ts'
import * as answers from './answer-form.ts'
import { batch } from './batch.ts'
import { ChangeStreams } from './changes.ts'
import { Cursors } from './cursor.ts'
import { expandGet, expandRequests, expandScan, tablesOf } from './expand.ts'
import { jsonAnswer } from './json-answer.ts'
import { object, text as textSchema } from './json-schema.ts'
import type { Metrics } from './metrics.ts'
import { openApi } from './openapi.ts'
import { auditRoutes, operatorRoutes, reprocessRoutes } from './operator-routes.ts'
import { choice, integer, keyParts, text, texts } from './parameter.ts'
import { receipt } from './receipt.ts'
import { type Header, type Route, requestIdHeader, route } from './route.ts'
import type { Serving } from './serving.ts'
import { story } from './story.ts'
import { submit } from './submit.ts'
import { page, row } from './tables.ts'

/** All that the server answers, and nothing else. */
export function routes(serving: Serving, metrics: Metrics): readonly Route[] {
  const streams = new ChangeStreams(serving)
  const all: Route[] = [
    ...requestRoutes(serving, metrics),
    ...tableRoutes(serving, streams),
    ...operatorRoutes(serving),
    ...auditRoutes(serving),
    ...reprocessRoutes(serving),
    ...serverRoutes(serving, metrics, streams, () => all),
  ]
  return all
}

const prefer: Header = {
  name: 'Prefer',
  description: '`respond-async`: answer when the request is durable, without waiting for its outcome.',
  schema: textSchema,
}
const principal = text('Whose request it is, for callers with the permission read.')
const after = texts('Tokens of replies: the read waits until those requests are applied.')

function requestRoutes(serving: Serving, metrics: Metrics): readonly Route[] {
  return [
    route({
      method: 'POST',
      path: '/requests/:type',
      // The type decides which permission it takes.
      permission: 'known',
      id: 'submit',
      summary: 'Sends a request',
      tag: 'requests',
      headers: [requestIdHeader, prefer],
      body: { type: 'application/json', schema: {} },
      answers: { 200: answers.accepted, 202: answers.durable },
      problems: [404, 409, 410, 422],
      expand: expandRequests,
      async handle({ request, parts }, caller) {
        const start = performance.now()
        const answer = await submit(serving, caller, request, parts[0]!)
        metrics.submitted(performance.now() - start)
        return answer
      },
    }),
    route({
      method: 'POST',
      path: '/requests',
      permission: 'known',
      id: 'submit-batch',
      summary: 'Sends many requests, one a line, and streams their outcomes back in the same order',
      tag: 'requests',
      body: {
        type: 'application/x-ndjson',
        schema: textSchema,
        description: `Each line is an object { requestId, type, input } of at most ${serving.limits.bodyBytes} bytes.`,
      },
      answers: { 200: answers.lines('One outcome a line.') },
      handle: ({ request }, caller) => batch(serving, caller, request),
    }),
    route({
      method: 'GET',
      path: '/requests/:id',
      permission: 'known',
      id: 'story',
      summary: 'Everything that followed from a request',
      tag: 'requests',
      query: { principal },
      answers: { 200: answers.json('The story.', answers.story), 304: answers.notModified },
      problems: [404, 422],
      handle: ({ request, parts, query }, caller) =>
        story(serving, caller, request, parts[0]!, query.principal),
    }),
    route({
      method: 'GET',
      path: '/requests/:id/receipt',
      permission: 'known',
      id: 'receipt',
      summary: 'Proof that a request is in the log; the public key of the log is enough to check it',
      tag: 'requests',
      query: { principal },
      answers: { 200: answers.json('The receipt.', object({})), 304: answers.notModified },
      problems: [404, 422],
      handle: ({ request, parts, query }, caller) =>
        receipt(serving, caller, request, parts[0]!, query.principal),
    }),
  ]
}

function tableRoutes(serving: Serving, streams: ChangeStreams): readonly Route[] {
  const cursors = new Cursors()
  return [
    route({
      method: 'GET',
      path: '/tables/:table',
      permission: 'known',
      id: 'scan',
      summary: 'Rows of a table, a page at a time',
      tag: 'tables',
      query: {
        index: text('Order by the fields of this index.'),
        prefix: keyParts('Only rows whose key, or index fields and key, begins so: a JSON list.'),
        from: keyParts('Only rows from here on; a JSON list of parts after the prefix.'),
        to: keyParts('Only rows before this; a JSON list of parts after the prefix.'),
        reverse: choice(['true', 'false'], 'false', 'The last row first.'),
        limit: integer(1, 1_000, 100, 'How many rows a page has at most.'),
        cursor: text('The `cursor` of the page before; the other parameters stay as they were.'),
        after,
      },
      answers: { 200: answers.json('A page; `cursor` if there may be more.', {}), 304: answers.notModified },
      problems: [404, 422],
      expand: expandScan,
      handle: ({ request, parts, query }, caller) =>
        page(serving, cursors, caller, request, parts[0]!, query),
    }),
    route({
      method: 'GET',
      path: '/tables/:table/*',
      permission: 'known',
      id: 'get',
      summary: 'One row of a table',
      tag: 'tables',
      query: { after },
      answers: { 200: answers.json('The row.', {}), 304: answers.notModified },
      problems: [404, 422],
      expand: expandGet,
      handle: ({ request, parts: [table, ...key], query }, caller) =>
        row(serving, caller, request, table!, key, query.after),
    }),
    route({
      method: 'GET',
      path: '/changes',
      permission: 'known',
      id: 'changes',
      summary: 'Changed rows as server-sent events; Last-Event-ID resumes them',
      tag: 'tables',
      query: {
        table: texts('The tables; without it, all that the caller may read.'),
        prefix: keyParts('The first parts of the key, as a JSON list.'),
        from: text('The position to continue from; the header Last-Event-ID takes precedence.'),
      },
      answers: { 200: answers.events('The stream.') },
      problems: [404, 410, 429],
      expand: (app) => [
        {
          path: '/changes',
          query: { table: { type: 'array', items: { enum: tablesOf(app).map(({ name }) => name) } } },
        },
      ],
      handle: ({ request, query }, caller) => streams.start(caller, request, query),
    }),
  ]
}

function serverRoutes(
  serving: Serving,
  metrics: Metrics,
  streams: ChangeStreams,
  all: () => readonly Route[],
): readonly Route[] {
  const { engine, clock, closing } = serving
  let document: { readonly version: string; readonly content: unknown } | undefined
  const health = { method: 'GET', permission: 'none', tag: 'server' } as const
  return [
    route({
      method: 'GET',
      path: '/openapi.json',
      permission: 'known',
      id: 'openapi',
      summary: 'This document',
      tag: 'server',
      answers: { 200: answers.json('The document.', object({})), 304: answers.notModified },
      handle({ request }) {
        const { version } = engine.stats()
        if (document?.version !== version) {
          document = { version, content: openApi(all(), engine.app, serving.path, version) }
        }
        return jsonAnswer(request, document.content)
      },
    }),
    route({
      method: 'GET',
      path: '/metrics',
      permission: 'operate',
      id: 'metrics',
      summary: 'Counters in the text format of Prometheus',
      tag: 'server',
      answers: { 200: answers.plain('The counters.') },
      async handle() {
        const { reprocessing } = engine
        const body = metrics.text(engine.stats(), await reprocessing.status(), clock.now(), streams.open)
        return plain(200, body, 'text/plain; version=0.0.4')
      },
    }),
    route({
      ...health,
      path: '/livez',
      id: 'livez',
      summary: 'Whether the process answers at all',
      answers: { 200: answers.plain('It does.') },
      handle: () => plain(200, 'live\n'),
    }),
    route({
      ...health,
      path: '/readyz',
      id: 'readyz',
      summary: 'Whether the server takes requests',
      answers: { 200: answers.plain('It does.'), 503: answers.plain('It is closing.') },
      handle: () => (closing.aborted ? plain(503, 'closing\n', undefined, '1') : plain(200, 'ready\n')),
    }),
  ]
}

function plain(
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
  retryAfter?: string,
): Answer {
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
