import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import type { ControlFact, ReprocessStatus } from '../reprocess/reprocessing.ts'
import type { Answer } from './answer.ts'
import { closingSoon } from './batch.ts'
import { allows, type Caller } from './caller.ts'
import { requestIdOf } from './idempotency-key.ts'
import { parseStrict, textOf } from './json.ts'
import { jsonAnswer } from './json-answer.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'
import { Spool } from './spool.ts'
import { checkMediaType } from './submit.ts'

/** The generations there are, and how they came about. */
export interface Generations {
  readonly live: { readonly generation: number; readonly version: string }
  /** The one beside it; left out when there is none. */
  readonly other?: ReprocessStatus
  /** All promotions and changes of code, the oldest first. */
  readonly history: readonly ControlFact[]
}

export async function generationsOf(
  engine: Pick<Engine<App>, 'stats' | 'reprocessing'>,
): Promise<Generations> {
  const { generation, version } = engine.stats()
  const other = await engine.reprocessing.status()
  return {
    live: { generation, version },
    ...(other && { other }),
    history: await engine.reprocessing.history(),
  }
}

/** `GET /reprocess`: the generations, and how far the other one is. */
export async function generations({ engine }: Serving, caller: Caller, request: Request): Promise<Answer> {
  checkAdministers(caller)
  return jsonAnswer(request, await generationsOf(engine))
}

/**
 * `POST /reprocess`, `{ version, share?, again? }`: begins with code that the data directory keeps. The code itself is never
 * taken from the network: what may write into the directory may run code here, and nothing else.
 */
export async function start(serving: Serving, caller: Caller, request: Request): Promise<Answer> {
  checkAdministers(caller)
  const { version, share, again } = await bodyOf(serving, request, {
    version: (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value),
    share: (value) => value === undefined || (typeof value === 'number' && value > 0 && value <= 1),
    again: (value) => value === undefined || typeof value === 'boolean',
  })
  const options = { ...(share !== undefined && { share }), ...(again !== undefined && { again }) }
  return told(await serving.engine.reprocessing.start({ version: version as string }, options as object))
}

/** `POST /reprocess/pause` and `/reprocess/resume`. */
export async function pauseOrResume(
  serving: Serving,
  caller: Caller,
  request: Request,
  what: 'pause' | 'resume',
): Promise<Answer> {
  checkAdministers(caller)
  await bodyOf(serving, request, {})
  return told(await serving.engine.reprocessing[what]())
}

/** `POST /reprocess/discard`: gives up the other generation. */
export async function discard(serving: Serving, caller: Caller, request: Request): Promise<Answer> {
  checkAdministers(caller)
  await bodyOf(serving, request, {})
  await serving.engine.reprocessing.discard()
  return { status: 204, headers: { 'cache-control': 'no-store' }, body: null }
}

const samplesMax = 1_000

/**
 * `GET /reprocess/diff?samples=`: counts and samples; with `Accept: application/x-ndjson` every difference as a line, and
 * the hash of the diff in `Hence-Diff`.
 */
export async function diff(
  serving: Serving,
  caller: Caller,
  request: Request,
  query: URLSearchParams,
): Promise<Answer> {
  checkAdministers(caller)
  const { engine, closing } = serving
  const samples = Number(query.get('samples') ?? 5)
  if (!Number.isInteger(samples) || samples < 0 || samples > samplesMax) {
    throw new HenceError(
      'query-invalid',
      'change',
      `\`samples\` must be a whole number from 0 to ${samplesMax}; all differences come as application/x-ndjson.`,
    )
  }
  checkCaughtUp(await engine.reprocessing.status())
  const signal = AbortSignal.any([closing, request.signal])
  const isWhole = /^application\/x-ndjson *(;|,|$)/i.test(request.headers.get('accept') ?? '')
  const spool = isWhole ? new Spool() : undefined
  try {
    const made = await engine.reprocessing.diff({
      samples,
      signal,
      ...(spool && { each: (line: string) => spool.add(line) }),
    })
    if (spool === undefined) return told(made)
    return {
      status: 200,
      headers: {
        'content-type': 'application/x-ndjson',
        'cache-control': 'no-store',
        'hence-diff': made.sha256,
      },
      body: spool.stream(),
    }
  } catch (error) {
    spool?.drop()
    throw closing.aborted && !(error instanceof HenceError) ? closingSoon() : error
  }
}

/** `POST /reprocess/promote`, `{ diff, note? }`, its id in the header Idempotency-Key. */
export async function promote(serving: Serving, caller: Caller, request: Request): Promise<Answer> {
  checkAdministers(caller)
  const requestId = requestIdOf(request.headers.get('idempotency-key'))
  const { diff, note } = await bodyOf(serving, request, {
    diff: (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value),
    note: (value) => value === undefined || typeof value === 'string',
  })
  const approval = { diff: diff as string, ...(note !== undefined && { note: note as string }) }
  const options = { requestId, principal: caller.principal }
  const promotion = await serving.engine.reprocessing.promote(approval, options)
  return told(promotion, promotion.replayed ? { 'idempotent-replayed': 'true' } : {})
}

/** @throws HenceError `reprocess-behind` (retry): nobody should hold a connection for as long as deriving may take */
function checkCaughtUp(status: ReprocessStatus | undefined): void {
  if (status?.state !== 'deriving') return
  const { records, of } = status
  throw new HenceError(
    'reprocess-behind',
    'retry',
    `The other generation is at ${records} of ${of} records, so it cannot be compared yet: ask again when its state is \`following\`.`,
  )
}

function checkAdministers(caller: Caller): void {
  if (!allows(caller, 'admin')) throw notAllowed('admin', 'reprocessing')
}

/** A JSON object with these members and no others. A body is needed even where it is empty; see `checkMediaType`. */
async function bodyOf<Name extends string>(
  { bodies }: Serving,
  request: Request,
  members: Readonly<Record<Name, (value: unknown) => boolean>>,
): Promise<Readonly<Record<Name, unknown>>> {
  checkMediaType(request.headers.get('content-type'), /^application\/json *(;|$)/i, 'application/json')
  const body = parseStrict(textOf(await bodies.whole(request)))
  const names = Object.keys(members) as Name[]
  const fits =
    typeof body === 'object' &&
    body !== null &&
    !Array.isArray(body) &&
    Object.keys(body).every((name) => Object.hasOwn(members, name)) &&
    names.every((name) => members[name]((body as Record<string, unknown>)[name]))
  if (fits) return body as Readonly<Record<Name, unknown>>
  throw new HenceError(
    'body-invalid',
    'change',
    `The body must be a JSON object with ${names.length === 0 ? 'nothing in it' : `${names.join(', ')}`}; /openapi.json tells more.`,
  )
}

function told(body: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
    body: JSON.stringify(body),
  }
}
