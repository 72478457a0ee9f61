import { Exchange, type HttpAnswer, type HttpCall, notUnderstood, problemOf } from '../../client/exchange.ts'
import { HenceError } from '../../failure.ts'
import { keepCode } from '../../offline/code.ts'
import { snapshotData } from '../../offline/data-snapshot.ts'
import type { Diff, Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import { bundleApp } from '../../sandbox/bundle.ts'
import { sandboxed } from '../../sandbox/program.ts'
import type { Generations } from '../../server/reprocess.ts'
import type { ServiceOptions } from '../address.ts'
import type { ReprocessTarget } from './target.ts'

/** A diff reads all derived state, and a promotion may wait for one. */
const timeoutMs = 30 * 60_000

/**
 * Calls a server. It takes no code over the network, so new code is put into its data directory, on the same
 * machine.
 */
export function httpTarget({ url, key, data }: ServiceOptions): ReprocessTarget {
  const exchange = new Exchange({ url, timeoutMs, ...(key !== undefined && { key }) })
  const checked = (answer: HttpAnswer): HttpAnswer => {
    if (answer.status === 200 || answer.status === 204) return answer
    throw problemOf(answer) ?? notUnderstood(answer)
  }
  const ask = async (call: HttpCall) => checked(await exchange.ask(call)).body
  const post = (path: string, body: object = {}, headers = {}) =>
    ask({ method: 'POST', path, body: JSON.stringify(body), headers })
  return {
    generations: async () => (await ask({ path: '/reprocess' })) as Generations,
    async start(app, options) {
      if (data === undefined) throw noDirectory()
      // Throws if this is not a data directory, before anything is written there.
      await snapshotData(data)
      const code = await bundleApp(app)
      sandboxed(code)
      await keepCode(data, code)
      return (await post('/reprocess', { version: code.hash, ...options })) as ReprocessStatus
    },
    pause: async () => (await post('/reprocess/pause')) as ReprocessStatus,
    resume: async () => (await post('/reprocess/resume')) as ReprocessStatus,
    diff: async (samples) => (await ask({ path: `/reprocess/diff?samples=${samples}` })) as Diff,
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
    promote: async (approval, { requestId }) =>
      (await post('/reprocess/promote', approval, { 'idempotency-key': `"${requestId}"` })) as Promotion,
    discard: async () => {
      await post('/reprocess/discard')
    },
    close: async () => {},
  }
}

function noDirectory(): HenceError {
  return new HenceError(
    'code-not-kept',
    'change',
    'A server takes no code over HTTP. Run this on its machine and name its data directory too (--data ' +
      'DIR --url URL), so that the code can be put there.',
  )
}
