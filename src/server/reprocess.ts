import type { App } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import type { ControlFact, ReprocessStatus } from '../reprocess/reprocessing.ts'
import type { Answer } from './answer.ts'
import { closingSoon } from './batch.ts'
import { requestIdOf } from './idempotency-key.ts'
import { freshAnswer, jsonAnswer } from './json-answer.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { Spool } from './spool.ts'
import { textStream } from './text-stream.ts'

/** The generations, and how they came to be. */
export interface Generations {
  readonly live: { readonly generation: number; readonly version: string }
  /** The candidate; left out if there is none. */
  readonly candidate?: ReprocessStatus
  /** All promotions and changes of code, the oldest first. */
  readonly history: readonly ControlFact[]
}

export async function generationsOf(
  engine: Pick<Engine<App>, 'stats' | 'reprocessing'>,
): Promise<Generations> {
  const { generation, version } = engine.stats()
  const candidate = await engine.reprocessing.status()
  return {
    live: { generation, version },
    ...(candidate && { candidate }),
    history: await engine.reprocessing.history(),
  }
}

/** `GET /reprocess`: the generations, and the progress of the candidate. */
export async function generations({ engine }: Serving, { request }: Arrival): Promise<Answer> {
  return jsonAnswer(request, await generationsOf(engine))
}

/**
 * `POST /reprocess`: begins with code that the data directory keeps. Code is never taken from the network:
 * only those who can write to the directory can run code here.
 */
export async function start({ engine }: Serving, { body }: Arrival): Promise<Answer> {
  type Body = { readonly version: string; readonly share?: number; readonly again?: boolean }
  const { version, ...options } = body as Body
  return freshAnswer(await engine.reprocessing.start({ version }, options))
}

/** `POST /reprocess/pause` and `/reprocess/resume`. */
export async function pauseOrResume({ engine }: Serving, action: 'pause' | 'resume'): Promise<Answer> {
  return freshAnswer(await engine.reprocessing[action]())
}

/** `POST /reprocess/discard`: gives up the candidate. */
export async function discard({ engine }: Serving): Promise<Answer> {
  await engine.reprocessing.discard()
  return { status: 204, headers: { 'cache-control': 'no-store' }, body: null }
}

/**
 * `GET /reprocess/diff`: counts and samples; with `Accept: application/x-ndjson` every difference as a line,
 * and the hash of the diff in `Hence-Diff`.
 */
export async function diff(
  { engine, closing, limits }: Serving,
  { request, access, query: { samples } }: Arrival<{ samples: Parameter<number> }>,
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
    return {
      status: 200,
      headers: {
        'content-type': 'application/x-ndjson',
        'cache-control': 'no-store',
        'hence-diff': made.sha256,
      },
      body: textStream(() => access.guard(spool.texts()), {
        stalledMs: limits.stalledMs,
        onEnd: () => spool.drop(),
      }),
    }
  } catch (error) {
    spool?.drop()
    throw closing.aborted && !(error instanceof HenceError) ? closingSoon() : error
  }
}

/** `POST /reprocess/promote`, with an id in the header Idempotency-Key. */
export async function promote({ engine }: Serving, { request, caller, body }: Arrival): Promise<Answer> {
  const approval = body as { readonly diff: string; readonly note?: string }
  const requestId = requestIdOf(request.headers)
  const options = { requestId, principal: caller.principal }
  const promotion = await engine.reprocessing.promote(approval, options)
  return freshAnswer(promotion, promotion.replayed ? { 'idempotent-replayed': 'true' } : {})
}

/**
 * @throws HenceError `reprocess-behind` (retry): deriving may take longer than a connection should be held
 */
function checkCaughtUp(status: ReprocessStatus | undefined): void {
  if (status?.state !== 'deriving') return
  const { records, of } = status
  throw new HenceError(
    'reprocess-behind',
    'retry',
    `The candidate is at ${records} of ${of} records, so it cannot be compared yet: ask again when its ` +
      `state is \`following\`.`,
  )
}
