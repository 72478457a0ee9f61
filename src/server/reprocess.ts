import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError, retryError } from '../failure.ts'
import type { ReprocessStatus } from '../reprocess/reprocessing.ts'
import { type Answer, freshAnswer, jsonAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import { closingSoon } from './batch.ts'
import { requestIdHeader, requestIdOf } from './idempotency-key.ts'
import { closed, type JsonSchema, sha256, text } from './json-schema.ts'
import { integer } from './parameter.ts'
import { type Arrival, type Body, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'
import { Spool } from './spool.ts'
import { streamAnswer } from './text-stream.ts'

/** The generations, and how they came to be. */
export type Generations = Awaited<ReturnType<typeof generationsOf>>

async function generationsOf(engine: Pick<Engine<App>, 'stats' | 'reprocessing'>) {
  const { generation, version } = engine.stats()
  return {
    live: { generation, version },
    /** Left out if there is none. */
    candidate: await engine.reprocessing.status(),
    /** All promotions and changes of code, the oldest first. */
    history: await engine.reprocessing.history(),
  }
}

const body = (members: Readonly<Record<string, JsonSchema>>): Body => ({
  type: 'application/json',
  isChecked: true,
  schema: closed(members),
})
const part = { type: 'number', exclusiveMinimum: 0, maximum: 1 }
const beginning = body({
  version: { ...sha256, description: 'The hash of the bundle.' },
  'share?': { ...part, description: 'The share of time it may work.' },
  'again?': { type: 'boolean', description: 'Even if this code is live.' },
})
const approval = body({ diff: { ...sha256, description: 'The hash of the last diff.' }, 'note?': text })
const diffQuery = { samples: integer(0, 1_000, 5, 'How many differences of each kind the summary holds.') }

export function reprocessRoutes(serving: Serving): readonly Route[] {
  const { engine } = serving
  const { reprocessing } = engine
  const switched = (action: 'pause' | 'resume', summary: string) =>
    route(`POST /reprocess/${action}`, 'admin', `${action}-reprocess`, summary, {
      body: body({}),
      problems: [404],
      handle: async () => freshAnswer(await reprocessing[action]()),
    })
  return [
    route(
      'GET /reprocess',
      'admin',
      'generations',
      'The live generation, the candidate, and all promotions',
      {
        handle: async ({ request }) => jsonAnswer(request, await generationsOf(engine)),
      },
    ),
    // Code is never taken from the network: only those who can write to the directory can run code here.
    route(
      'POST /reprocess',
      'admin',
      'reprocess',
      'Starts to derive everything again with code that is kept',
      {
        body: beginning,
        problems: [404, 409, 422],
        async handle({ body }) {
          type Beginning = { readonly version: string; readonly share?: number; readonly again?: boolean }
          const { version, ...options } = body as Beginning
          return freshAnswer(await reprocessing.start({ version }, options))
        },
      },
    ),
    switched('pause', 'Pauses the candidate'),
    switched('resume', 'Resumes the candidate'),
    route('POST /reprocess/discard', 'admin', 'discard-reprocess', 'Gives up the candidate', {
      body: body({}),
      answers: { 204: { description: 'Only the live generation is left.' } },
      problems: [404],
      async handle() {
        await reprocessing.discard()
        return { status: 204, headers: { 'cache-control': 'no-store' }, body: null }
      },
    }),
    route('GET /reprocess/diff', 'admin', 'diff', 'How the candidate differs from the live generation', {
      query: diffQuery,
      answers: { 200: forms.diff },
      isLong: true,
      problems: [404, 409],
      handle: (arrival) => diff(serving, arrival),
    }),
    route('POST /reprocess/promote', 'admin', 'promote', 'Makes the candidate live', {
      headers: [requestIdHeader],
      body: approval,
      problems: [404, 409, 410, 422],
      async handle({ request, caller, body }) {
        const approved = body as { readonly diff: string; readonly note?: string }
        const options = { requestId: requestIdOf(request.headers), principal: caller.principal }
        const promotion = await reprocessing.promote(approved, options)
        return freshAnswer(promotion, promotion.replayed ? { 'idempotent-replayed': 'true' } : {})
      },
    }),
  ]
}

/** `GET /reprocess/diff`: a summary; with `Accept: application/x-ndjson` every difference, one a line. */
async function diff(
  { engine, closing, limits }: Serving,
  { request, access, query: { samples } }: Arrival<typeof diffQuery>,
): Promise<Answer> {
  checkCaughtUp(await engine.reprocessing.status())
  const signal = AbortSignal.any([closing, request.signal])
  const isWhole = /^application\/x-ndjson *(;|,|$)/i.test(request.headers.get('accept') ?? '')
  const spool = isWhole ? new Spool() : undefined
  try {
    const made = await engine.reprocessing.diff({
      samples,
      signal,
      each: spool && ((line: string) => spool.add(line)),
    })
    if (spool === undefined) return freshAnswer(made)
    const texts = () => access.guard(spool.texts())
    const headers = { 'hence-diff': made.sha256 }
    return streamAnswer(limits, 'application/x-ndjson', texts, () => spool.drop(), headers)
  } catch (error) {
    spool?.drop()
    // A client that has gone reads no answer, and is no fault of the server.
    throw signal.aborted && !(error instanceof HenceError) ? closingSoon() : error
  }
}

function checkCaughtUp(status: ReprocessStatus | undefined): void {
  if (status?.state !== 'deriving') return
  const { records, of } = status
  throw retryError(
    'reprocess-behind',
    `The candidate is at ${records} of ${of} records, so it cannot be compared yet: ask again when its ` +
      `state is \`following\`.`,
  )
}
