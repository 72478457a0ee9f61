import { type Answer, jsonAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import { auditRoutes } from './audit.ts'
import { batchesOf } from './batch.ts'
import { changeStreams } from './changes.ts'
import { consoleFiles } from './console.ts'
import { expandRequests } from './expand.ts'
import { requestIdHeader } from './idempotency-key.ts'
import { requestId, text } from './json-schema.ts'
import { logRoutes } from './log.ts'
import type { Metrics, OpenThings } from './metrics.ts'
import { openApi } from './openapi.ts'
import { operatorRoutes } from './operator.ts'
import { reprocessRoutes } from './reprocess.ts'
import { type Header, type Route, route } from './route.ts'
import { seriesRoute } from './series.ts'
import type { Serving } from './serving.ts'
import { ageMax } from './standby.ts'
import { stateRoute } from './state.ts'
import { me, status } from './status.ts'
import { requestNotFound, senderOf, senderQuery, story } from './story.ts'
import { submit } from './submit.ts'
import { tableRoutes } from './tables.ts'

export function routes(serving: Serving, metrics: Metrics): readonly Route[] {
  const streams = changeStreams(serving)
  const batches = batchesOf(serving)
  const open = () => ({ streams: streams.open, batches: batches.open, bodyBytes: serving.bodies.held.held })
  const all: Route[] = [
    ...requestRoutes(serving, metrics, batches.start),
    ...tableRoutes(serving, streams),
    ...operatorRoutes(serving),
    ...logRoutes(serving),
    ...auditRoutes(serving),
    ...reprocessRoutes(serving),
    ...serverRoutes(serving, metrics, open, () => all),
  ]
  return all
}

const inReplyTo: Header = {
  name: 'Hence-In-Reply-To',
  description:
    'The id of the effect, violation or request that it replies to, in the form of Idempotency-Key.',
  schema: requestIdHeader.schema,
}
const prefer: Header = {
  name: 'Prefer',
  description: '`respond-async`: answer when the request is durable, without waiting for its outcome.',
  schema: text,
}

function requestRoutes(serving: Serving, metrics: Metrics, startBatch: Route['handle']): readonly Route[] {
  return [
    // The type of a request, or of a line, decides which permission it takes.
    route('POST /requests/:type', 'known', 'submit', 'Sends a request', {
      headers: [requestIdHeader, inReplyTo, prefer],
      body: { type: 'application/json', schema: {} },
      answers: { 200: forms.accepted, 202: forms.durable },
      problems: [404, 409, 410, 422],
      expand: expandRequests,
      handle: (arrival) => submit(serving, metrics, arrival),
    }),
    route('POST /requests', 'known', 'submit-batch', 'Sends many requests and streams their outcomes back', {
      body: {
        type: 'application/x-ndjson',
        schema: text,
        description: `Each line is an object { requestId, type, input } of at most ${serving.limits.bodyBytes} bytes.`,
      },
      answers: {
        200: forms.textForm('application/x-ndjson', 'One outcome a line, in the order of the requests.'),
      },
      problems: [429],
      handle: startBatch,
    }),
    route('GET /requests/:id', 'known', 'story', 'Everything that followed from a request', {
      query: senderQuery,
      headers: [ageMax],
      parts: { id: requestId },
      json: forms.story,
      standby: true,
      problems: [404, 422],
      handle: (arrival) => story(serving, arrival),
    }),
    route('GET /requests/:id/receipt', 'known', 'receipt', 'Proof that a request is in the log', {
      query: senderQuery,
      parts: { id: requestId },
      problems: [404, 422],
      async handle(arrival) {
        const id = arrival.parts[0]!
        const found = await serving.engine.audit.receipt(id, { principal: senderOf(arrival) })
        if (found === undefined) throw requestNotFound(id)
        return jsonAnswer(arrival.request, found)
      },
    }),
  ]
}

function serverRoutes(
  serving: Serving,
  metrics: Metrics,
  open: () => OpenThings,
  all: () => readonly Route[],
): readonly Route[] {
  const { engine, clock, closing } = serving
  const consoleFile = consoleFiles()
  let document: { readonly version: string; readonly content: unknown } | undefined
  return [
    route('GET /openapi.json', 'known', 'openapi', 'This document', {
      standby: true,
      handle({ request }) {
        const { version } = engine.stats()
        if (document?.version !== version) {
          document = { version, content: openApi(all(), engine.app, serving.path, version) }
        }
        return jsonAnswer(request, document.content)
      },
    }),
    route('GET /metrics', 'operate', 'metrics', 'Counters in the text format of Prometheus', {
      answers: { 200: forms.textForm('text/plain', 'The counters.') },
      standby: true,
      async handle() {
        // A standby has no candidate, and says how old its state is.
        const { standby } = serving
        const reprocess = standby ? undefined : await engine.reprocessing.status()
        const stats = { ...engine.stats(), ...(standby && { ageMs: standby.ageMs }) }
        return plain(200, metrics.text(stats, reprocess, clock.now(), open()), 'text/plain; version=0.0.4')
      },
    }),
    route('GET /status', 'operate', 'status', 'Counters of the engine, as JSON', {
      handle: async ({ request }) => jsonAnswer(request, await status(serving, metrics)),
    }),
    seriesRoute(serving, metrics),
    stateRoute(serving),
    route('GET /me', 'known', 'me', 'Who the caller is, and what the app has', {
      standby: true,
      handle: ({ request, caller }) => jsonAnswer(request, me(serving, caller)),
    }),
    route('GET /console', 'none', 'console', 'Leads to the console', {
      answers: { 308: { description: 'The console is at `console/`.' } },
      handle: consoleFile,
    }),
    route('GET /console/*', 'none', 'console-file', 'A view or a file of the console', {
      answers: { 200: forms.file },
      expand: () => [{ path: '/console/{file}' }],
      anyQuery: true,
      problems: [404],
      handle: consoleFile,
    }),
    route('GET /livez', 'none', 'livez', 'Whether the process answers at all', {
      answers: { 200: forms.textForm('text/plain', 'It does.') },
      standby: true,
      handle: () => plain(200, 'live\n'),
    }),
    route('GET /readyz', 'none', 'readyz', 'Whether the server takes requests', {
      answers: {
        200: forms.textForm('text/plain', 'It does.'),
        503: forms.textForm('text/plain', 'It is closing, or its engine has stopped.'),
      },
      async handle() {
        if (closing.aborted) return plain(503, 'closing\n')
        const health = await engine.health()
        return health.ready ? plain(200, 'ready\n') : plain(503, `${health.code}\n`)
      },
    }),
  ]
}

function plain(status: number, body: string, type = 'text/plain; charset=utf-8'): Answer {
  const headers = { 'content-type': type, 'cache-control': 'no-store' }
  return { status, headers: status === 503 ? { ...headers, 'retry-after': '1' } : headers, body }
}
