import type { Answer } from './answer.ts'
import * as forms from './answer-form.ts'
import { consistency, head, headSizes, receipt } from './audit.ts'
import { Batches } from './batch.ts'
import { ChangeStreams } from './changes.ts'
import { ConsoleFiles } from './console.ts'
import { effect, effectStates, effects } from './effects.ts'
import { expandChanges, expandGet, expandRequests, expandScan } from './expand.ts'
import { jsonAnswer } from './json-answer.ts'
import {
  closed,
  object,
  principal,
  requestId as requestIdSchema,
  sha256,
  text as textSchema,
  token,
} from './json-schema.ts'
import { logPage, logRecord } from './log.ts'
import type { Metrics, OpenThings } from './metrics.ts'
import { openApi } from './openapi.ts'
import { choice, integer, keyParts, text, texts } from './parameter.ts'
import * as reprocess from './reprocess.ts'
import { type Body, type Header, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'
import { me, status } from './status.ts'
import { story } from './story.ts'
import { submit } from './submit.ts'
import { page, row } from './tables.ts'
import { violation } from './violation.ts'

/** All routes of the server. */
export function routes(serving: Serving, metrics: Metrics): readonly Route[] {
  const streams = new ChangeStreams(serving)
  const batches = new Batches(serving)
  const open = () => ({ streams: streams.open, batches: batches.open, bodyBytes: serving.bodies.held.held })
  const all: Route[] = [
    ...requestRoutes(serving, metrics, batches),
    ...tableRoutes(serving, streams),
    ...operatorRoutes(serving),
    ...logRoutes(serving),
    ...auditRoutes(serving),
    ...reprocessRoutes(serving),
    ...serverRoutes(serving, metrics, open, () => all),
  ]
  return all
}

const requestId: Header = {
  name: 'Idempotency-Key',
  required: true,
  description:
    'The id of the request, made and stored by the client; a UUID of version 7 is the standard form.',
  // A string of RFC 9651, or the same without quotes.
  schema: { type: 'string', pattern: '^([!#-~]{1,255}|"([!#-\\[\\]-~]|\\\\["\\\\]){1,255}")$' },
}
const inReplyTo: Header = {
  name: 'Hence-In-Reply-To',
  description:
    'The id of the effect, violation or request that it replies to, in the form of Idempotency-Key.',
  schema: requestId.schema,
}
const prefer: Header = {
  name: 'Prefer',
  description: '`respond-async`: answer when the request is durable, without waiting for its outcome.',
  schema: textSchema,
}
const whose = text('Whose request it is, for callers with the permission read.', principal)
const after = texts('Tokens of replies: the read waits until those requests are applied.', token)

const cursor = { type: 'string', pattern: '^[\\w-]+$' }
const position = { type: 'string', pattern: '^\\d{1,16}(\\.\\d{1,16})*$' }

function requestRoutes(serving: Serving, metrics: Metrics, batches: Batches): readonly Route[] {
  return [
    // The type of a request, or of a line, decides which permission it takes.
    route('POST /requests/:type', 'known', 'submit', 'Sends a request', {
      headers: [requestId, inReplyTo, prefer],
      body: { type: 'application/json', schema: {} },
      answers: { 200: forms.accepted, 202: forms.durable },
      problems: [404, 409, 410, 422],
      expand: expandRequests,
      async handle(arrival) {
        const start = performance.now()
        const answer = await submit(serving, arrival)
        metrics.submitted(performance.now() - start)
        return answer
      },
    }),
    route('POST /requests', 'known', 'submit-batch', 'Sends many requests and streams their outcomes back', {
      body: {
        type: 'application/x-ndjson',
        schema: textSchema,
        description: `Each line is an object { requestId, type, input } of at most ${serving.limits.bodyBytes} bytes.`,
      },
      answers: { 200: forms.lines('One outcome a line, in the order of the requests.') },
      problems: [429],
      handle: (arrival) => batches.start(arrival),
    }),
    route('GET /requests/:id', 'known', 'story', 'Everything that followed from a request', {
      query: { principal: whose },
      parts: { id: requestIdSchema },
      json: forms.story,
      problems: [404, 422],
      handle: (arrival) => story(serving, arrival),
    }),
    route('GET /requests/:id/receipt', 'known', 'receipt', 'Proof that a request is in the log', {
      query: { principal: whose },
      parts: { id: requestIdSchema },
      json: object({}),
      problems: [404, 422],
      handle: (arrival) => receipt(serving, arrival),
    }),
  ]
}

function tableRoutes(serving: Serving, streams: ChangeStreams): readonly Route[] {
  return [
    route('GET /tables/:table', 'known', 'scan', 'Rows of a table, a page at a time', {
      query: {
        index: text('Order by the fields of this index.'),
        prefix: keyParts('Only rows whose key, or index fields and key, begins so: a JSON list.'),
        from: keyParts('Only rows from here on; a JSON list of parts after the prefix.'),
        to: keyParts('Only rows before this; a JSON list of parts after the prefix.'),
        reverse: choice(['true', 'false'], 'false', 'The last row first.'),
        limit: integer(1, 1_000, 100, 'How many rows a page has at most.'),
        cursor: text('The `cursor` of the page before; the other parameters stay as they were.', cursor),
        after,
      },
      json: {},
      problems: [404, 422],
      expand: expandScan,
      handle: (arrival) => page(serving, arrival),
    }),
    route('GET /tables/:table/*', 'known', 'get', 'One row of a table', {
      query: { after },
      json: {},
      problems: [404, 422],
      expand: expandGet,
      handle: (arrival) => row(serving, arrival),
    }),
    route('GET /changes', 'known', 'changes', 'Changed rows as server-sent events', {
      query: {
        table: texts('The tables; without it, all that the caller may read.'),
        prefix: keyParts('The first parts of the key, as a JSON list.'),
        from: text('The position to continue from; the header Last-Event-ID takes precedence.', position),
      },
      answers: { 200: forms.events('The stream.') },
      problems: [404, 410, 429],
      expand: expandChanges,
      isLong: true,
      handle: (arrival) => streams.start(arrival),
    }),
  ]
}

function operatorRoutes(serving: Serving): readonly Route[] {
  return [
    route(
      'GET /violations/:key/:id',
      'operate',
      'violation',
      'A violation, and the claims that may give way',
      {
        json: object({}),
        problems: [404],
        handle: (arrival) => violation(serving, arrival),
      },
    ),
    route('GET /effects', 'operate', 'effects', 'Effects in a state, the oldest first', {
      query: {
        state: choice(effectStates, 'pending', 'Their state.'),
        type: text('Only effects of this type.'),
        limit: integer(1, 1_000, 100, 'How many a page has at most.'),
        cursor: text('The `cursor` of the page before; the other parameters stay as they were.', cursor),
      },
      json: object({}),
      handle: (arrival) => effects(serving, arrival),
    }),
    route('GET /effects/:id', 'operate', 'effect', 'One effect, with its tries', {
      json: object({}),
      problems: [404],
      handle: (arrival) => effect(serving, arrival),
    }),
  ]
}

function logRoutes(serving: Serving): readonly Route[] {
  return [
    route('GET /log', 'read', 'log', 'Records of a partition of the log, a page at a time', {
      query: {
        partition: integer(0, 1_023, 0, 'The partition.'),
        from: integer(0, 999_999_999_999_999, 0, 'The offset of the first record to look at.'),
        limit: integer(1, 1_000, 100, 'How many records a page has at most.'),
        type: text('Only requests and events of this type, or records of this kind.'),
        principal: text('Only requests, and what followed from requests, of this sender.', principal),
        outcome: choice(['any', 'accepted', 'rejected', 'failed'], 'any', 'Only requests with this outcome.'),
      },
      json: forms.logPage,
      handle: (arrival) => logPage(serving, arrival),
    }),
    route('GET /log/:token', 'read', 'log-record', 'One record of the log, with its bytes and hashes', {
      parts: { token },
      json: forms.logRecord,
      problems: [404],
      handle: (arrival) => logRecord(serving, arrival),
    }),
  ]
}

/** Every caller may check the log. These routes disclose how many records it has, as every receipt does. */
function auditRoutes(serving: Serving): readonly Route[] {
  return [
    route('GET /audit/head', 'known', 'head', 'The newest signed tree head of the log', {
      json: forms.head,
      problems: [404],
      handle: (arrival) => head(serving, arrival),
    }),
    route(
      'GET /audit/consistency',
      'known',
      'consistency',
      'Proof that the log has only grown since a head',
      {
        query: { from: headSizes },
        json: forms.consistency,
        problems: [404, 409],
        handle: (arrival) => consistency(serving, arrival),
      },
    ),
  ]
}

const nothing: Body = { type: 'application/json', schema: closed({}), isChecked: true }
const reprocessStart: Body = {
  type: 'application/json',
  isChecked: true,
  schema: closed({
    version: { ...sha256, description: 'The hash of the bundle.' },
    'share?': {
      type: 'number',
      exclusiveMinimum: 0,
      maximum: 1,
      description: 'The share of time it may work.',
    },
    'again?': { type: 'boolean', description: 'Even if this code is live.' },
  }),
}
const approval: Body = {
  type: 'application/json',
  isChecked: true,
  schema: closed({ diff: { ...sha256, description: 'The hash of the last diff.' }, 'note?': textSchema }),
}

function reprocessRoutes(serving: Serving): readonly Route[] {
  return [
    route(
      'GET /reprocess',
      'admin',
      'generations',
      'The live generation, the candidate, and all promotions',
      {
        json: object({}),
        handle: (arrival) => reprocess.generations(serving, arrival),
      },
    ),
    route(
      'POST /reprocess',
      'admin',
      'reprocess',
      'Starts to derive everything again with code that is kept',
      {
        body: reprocessStart,
        json: object({}),
        problems: [404, 409, 422],
        handle: (arrival) => reprocess.start(serving, arrival),
      },
    ),
    route('POST /reprocess/pause', 'admin', 'pause-reprocess', 'Pauses the candidate', {
      body: nothing,
      json: object({}),
      problems: [404],
      handle: () => reprocess.pauseOrResume(serving, 'pause'),
    }),
    route('POST /reprocess/resume', 'admin', 'resume-reprocess', 'Resumes the candidate', {
      body: nothing,
      json: object({}),
      problems: [404],
      handle: () => reprocess.pauseOrResume(serving, 'resume'),
    }),
    route('POST /reprocess/discard', 'admin', 'discard-reprocess', 'Gives up the candidate', {
      body: nothing,
      answers: { 204: { description: 'Only the live generation is left.' } },
      problems: [404],
      handle: () => reprocess.discard(serving),
    }),
    route('GET /reprocess/diff', 'admin', 'diff', 'How the candidate differs from the live generation', {
      query: { samples: integer(0, 1_000, 5, 'How many differences of each kind the summary holds.') },
      answers: { 200: forms.diff },
      isLong: true,
      problems: [404, 409],
      handle: (arrival) => reprocess.diff(serving, arrival),
    }),
    route('POST /reprocess/promote', 'admin', 'promote', 'Makes the candidate live', {
      headers: [requestId],
      body: approval,
      json: object({}),
      problems: [404, 409, 410, 422],
      handle: (arrival) => reprocess.promote(serving, arrival),
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
  const consoleFiles = new ConsoleFiles()
  let document: { readonly version: string; readonly content: unknown } | undefined
  return [
    route('GET /openapi.json', 'known', 'openapi', 'This document', {
      json: object({}),
      handle({ request }) {
        const { version } = engine.stats()
        if (document?.version !== version) {
          document = { version, content: openApi(all(), engine.app, serving.path, version) }
        }
        return jsonAnswer(request, document.content)
      },
    }),
    route('GET /metrics', 'operate', 'metrics', 'Counters in the text format of Prometheus', {
      answers: { 200: forms.plain('The counters.') },
      async handle() {
        const reprocess = await engine.reprocessing.status()
        const body = metrics.text(engine.stats(), reprocess, clock.now(), open())
        return plain(200, body, 'text/plain; version=0.0.4')
      },
    }),
    route('GET /status', 'operate', 'status', 'Counters of the engine, as JSON', {
      json: object({}),
      handle: (arrival) => status(serving, metrics, arrival),
    }),
    route('GET /me', 'known', 'me', 'Who the caller is, and what the app has', {
      json: object({}),
      handle: (arrival) => me(serving, arrival),
    }),
    route('GET /console', 'none', 'console', 'Leads to the console', {
      answers: { 308: { description: 'The console is at `console/`.' } },
      handle: (arrival) => consoleFiles.answer(arrival),
    }),
    route('GET /console/*', 'none', 'console-file', 'A view or a file of the console', {
      answers: { 200: forms.file },
      expand: () => [{ path: '/console/{file}' }],
      anyQuery: true,
      problems: [404],
      handle: (arrival) => consoleFiles.answer(arrival),
    }),
    route('GET /livez', 'none', 'livez', 'Whether the process answers at all', {
      answers: { 200: forms.plain('It does.') },
      handle: () => plain(200, 'live\n'),
    }),
    route('GET /readyz', 'none', 'readyz', 'Whether the server takes requests', {
      answers: {
        200: forms.plain('It does.'),
        503: forms.plain('It is closing, or its engine has stopped.'),
      },
      async handle() {
        if (closing.aborted) return plain(503, 'closing\n', undefined, '1')
        const health = await engine.health()
        return health.ready ? plain(200, 'ready\n') : plain(503, `${health.code}\n`, undefined, '1')
      },
    }),
  ]
}

function plain(
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
  retryAfter?: string,
): Answer {
  const headers = { 'content-type': type, 'cache-control': 'no-store' }
  return { status, headers: retryAfter ? { ...headers, 'retry-after': retryAfter } : headers, body }
}
