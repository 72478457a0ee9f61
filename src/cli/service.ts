import type { App } from '../app/index.ts'
import type { Consistency } from '../audit/consistency.ts'
import type { SignedHead } from '../audit/head.ts'
import type { Receipt } from '../audit/receipt.ts'
import { type Connection, connect } from '../client/connect.ts'
import { Exchange, notUnderstood, problemOf } from '../client/exchange.ts'
import type { EffectState } from '../effect/outbox.ts'
import type { Engine, EngineStats } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import type { Story } from '../query/story.ts'
import type { ViewStatus } from '../view/views.ts'
import type { ServiceOptions } from './address.ts'
import { printReport } from './terminal/output.ts'

/** The target of a command: the server at an address, or the engine of a data directory. */
export interface Opened {
  readonly service: Pick<Connection<App>, 'submit' | 'get' | 'scan' | 'close'>
  /** Yields effects in a state, oldest first within a type; reads a page at a time. */
  effects(query: EffectQuery): AsyncIterable<EffectState>
  /** Returns an effect; undefined when there is none with this id. */
  effect(id: string): ReturnType<Engine<App>['effects']['get']>
  /** Returns how far each view is. */
  views(): Promise<readonly ViewStatus[]>
  /** Returns the story of a request; undefined when its id is not known. */
  story(requestId: string, principal: string | undefined): Promise<Story | undefined>
  /** Returns the proof that a request is in the log; undefined when its id is not known. */
  receipt(requestId: string, principal: string | undefined): Promise<Receipt | undefined>
  /** Returns the newest signed head; undefined while the log is empty. */
  head(): Promise<SignedHead | undefined>
  /** Returns the proof that the log has only grown since a head of these sizes. */
  consistency(from: readonly number[]): Promise<Consistency>
}

interface EffectQuery {
  readonly state: EffectState['state']
  readonly type?: string
}

/** Effects are read so many at a time, which is the most that a server lists. */
const pageMax = 1_000

async function openService(options: ServiceOptions): Promise<Opened> {
  const { url, key, data, app, json, audit = false } = options
  if (data !== undefined) {
    // Loaded only here: the engine is large, and a command for a server needs none of it.
    const { openEmbedded } = await import('../offline/embedded.ts')
    const engine = await openEmbedded({ data, app, audit, report: printReport(json) })
    return {
      service: engine,
      async *effects(query) {
        let from: EffectState | undefined
        do {
          const page = await engine.effects.list({ ...query, limit: pageMax, ...(from && { from }) })
          // A page begins with the last effect of the page before, if that is still in the state.
          yield* page.filter(({ id }) => id !== from?.id)
          from = page.length < pageMax ? undefined : page.at(-1)
        } while (from !== undefined)
      },
      effect: (id) => engine.effects.get(id),
      views: async () => engine.stats().views,
      story: (requestId, principal) => engine.story(requestId, principal === undefined ? {} : { principal }),
      receipt: (requestId, principal) =>
        engine.audit.receipt(requestId, principal === undefined ? {} : { principal }),
      head: () =>
        engine.audit.head().catch((error) => {
          if (error instanceof HenceError && error.code === 'head-not-found') return undefined
          throw error
        }),
      consistency: (from) => engine.audit.consistency(from),
    }
  }
  const reach = { url, ...(key !== undefined && { key }) }
  const ask = async (path: string, missing?: string) => {
    const answer = await new Exchange(reach).ask({ path })
    if (answer.status === 200) return answer.body
    const problem = problemOf(answer) ?? notUnderstood(answer)
    if (problem.code === missing) return undefined
    throw problem
  }
  return {
    // A person is waiting, so give up earlier than a program would.
    service: connect<App>(url, { ...reach, patienceMs: 5_000 }),
    async *effects({ state, type }) {
      let cursor: string | undefined
      do {
        const query = new URLSearchParams({
          state,
          limit: String(pageMax),
          ...(type !== undefined && { type }),
          ...(cursor !== undefined && { cursor }),
        })
        const page = (await ask(`/effects?${query}`)) as { effects: EffectState[]; cursor?: string }
        yield* page.effects
        cursor = page.cursor
      } while (cursor !== undefined)
    },
    effect: async (id) =>
      (await ask(`/effects/${encodeURIComponent(id)}`, 'effect-not-found')) as EffectState,
    views: async () => ((await ask('/status')) as EngineStats).views,
    story: async (requestId, principal) =>
      (await ask(requestPath(requestId, '', principal), 'request-not-found')) as Story,
    receipt: async (requestId, principal) =>
      (await ask(requestPath(requestId, '/receipt', principal), 'request-not-found')) as Receipt,
    head: async () => (await ask('/audit/head', 'head-not-found')) as SignedHead | undefined,
    consistency: async (from) => (await ask(`/audit/consistency?from=${from.join(',')}`)) as Consistency,
  }
}

function requestPath(requestId: string, below: string, principal: string | undefined): string {
  const query = principal === undefined ? '' : `?principal=${encodeURIComponent(principal)}`
  return `/requests/${encodeURIComponent(requestId)}${below}${query}`
}

/** Opens the target, works with it, and closes it, however the work ends. */
export async function withService<T>(
  options: ServiceOptions,
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const opened = await openService(options)
  try {
    return await work(opened)
  } finally {
    await opened.service.close()
  }
}
