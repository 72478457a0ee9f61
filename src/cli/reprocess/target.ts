import type { Command } from 'commander'
import { Exchange, type ExchangeOptions, notUnderstood, problemOf } from '../../client/exchange.ts'
import { changeError, retryError } from '../../failure.ts'
import { catchUp, failureOf } from '../../reprocess/catch-up.ts'
import { noCandidate } from '../../reprocess/errors.ts'
import type { Diff, Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { Generations } from '../../server/reprocess.ts'
import type { HenceCommand, ServiceOptions } from '../command.ts'
import { ask, openServer } from '../service.ts'
import { Progress } from '../terminal/progress.ts'
import { stopSignal } from '../terminal/stop-signal.ts'

import { progressOf } from './status-text.ts'

/** A diff reads all derived state, and a promotion may wait for one. */
const timeoutMs = 30 * 60_000

export type ReprocessTarget = ReturnType<typeof targetOf>

/**
 * @param data the data directory of the server: it takes no code over HTTP, so new code is put there, on the
 *   same machine
 */
function targetOf(reach: ExchangeOptions, data: string | undefined) {
  const exchange = new Exchange({ timeoutMs, ...reach })
  const post = <T>(path: string, body: object = {}, headers = {}) =>
    ask<T>(exchange, { method: 'POST', path, body: JSON.stringify(body), headers })
  return {
    generations: () => ask<Generations>(exchange, { path: '/reprocess' }),
    /** Starts a candidate with the code of a module, as its files are now. */
    async start(app: string, options: { share: number | undefined; again: true | undefined }) {
      if (data === undefined)
        throw changeError(
          'code-not-kept',
          'A server takes no code over HTTP. Run this on its machine and name its data directory too (--data ' +
            'DIR --url URL), so that the code can be put there.',
        )
      const { putCode } = await import('../../offline/code.ts')
      await post('/reprocess', { version: await putCode(data, app), ...options })
    },
    pause: () => post<ReprocessStatus>('/reprocess/pause'),
    resume: () => post<ReprocessStatus>('/reprocess/resume'),
    diff: (samples: number) => ask<Diff>(exchange, { path: `/reprocess/diff?samples=${samples}` }),
    /** Returns every difference as a line of JSON, in texts of any length, and the hash of the whole diff. */
    async differences() {
      const headers = { accept: 'application/x-ndjson, application/problem+json' }
      const response = await exchange.open({ path: '/reprocess/diff?samples=0', headers })
      const hash = response.headers.get('hence-diff')
      if (response.ok && response.body !== null && hash !== null) {
        return { lines: response.body.pipeThrough(new TextDecoderStream()), hash }
      }
      const body: unknown = await response.json().catch(() => undefined)
      throw problemOf({ body }) ?? notUnderstood(response)
    },
    promote: (approval: { readonly diff: string; readonly note: string | undefined }, requestId: string) =>
      post<Promotion>('/reprocess/promote', approval, { 'idempotency-key': `"${requestId}"` }),
    discard: () => post('/reprocess/discard'),
  }
}

/**
 * Adds the options that name the target, and an action, while which the target is open. With `--data` alone
 * this process opens the directory; with `--data` and `--url` the directory is where new code is put.
 * @param stops whether SIGINT and SIGTERM abort the signal of the action, instead of ending the process
 */
export function onTarget<Options extends ServiceOptions, Args extends unknown[]>(
  command: HenceCommand,
  act: (
    target: ReprocessTarget,
    options: Options,
    signal: AbortSignal,
    ...args: Args
  ) => Promise<number | undefined>,
  stops = false,
): HenceCommand {
  return command.engine().runs(async (...given: unknown[]) => {
    const [options, self] = given.slice(-2) as [Options, Command]
    const { data } = options
    const isLocal = data !== undefined && self.getOptionValueSource('url') !== 'cli'
    const { signal } = stops ? stopSignal() : new AbortController()
    const { reach, close } = await openServer(options, isLocal ? data : undefined)
    try {
      return await act(targetOf(reach, data), options, signal, ...(given.slice(0, -2) as Args))
    } finally {
      await close()
    }
  })
}

/** Waits until the candidate has caught up or the signal aborts, with a line of progress. */
export async function catchUpShown(
  target: ReprocessTarget,
  signal: AbortSignal,
): Promise<ReprocessStatus | undefined> {
  const progress = new Progress()
  const status = async () => (await target.generations()).candidate
  const reached = await catchUp(status, signal, (now) => progress.show(() => progressOf(now)))
  progress.end()
  return reached
}

/** As `catchUpShown`; throws if the candidate cannot be compared then. */
export async function caughtUp(target: ReprocessTarget, signal: AbortSignal): Promise<void> {
  const candidate = await catchUpShown(target, signal)
  if (candidate === undefined) throw noCandidate()
  if (candidate.state === 'failed') throw failureOf(candidate)
  // If it is paused, the comparison throws.
  if (candidate.state !== 'deriving') return
  throw retryError(
    'reprocess-behind',
    'Stopped: the candidate has not caught up with the log, so it cannot be compared yet.',
  )
}
