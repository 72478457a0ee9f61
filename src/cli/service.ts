import type { App } from '../app/index.ts'
import type { Consistency } from '../audit/consistency.ts'
import type { SignedHead } from '../audit/head.ts'
import type { Receipt } from '../audit/receipt.ts'
import type { Connection } from '../client/connect.ts'
import type { ExchangeOptions, HttpCall } from '../client/exchange.ts'
import { Exchange, notUnderstood, problemOf } from '../client/exchange.ts'
import type { EffectState } from '../effect/outbox.ts'
import type { Engine, EngineStats } from '../engine/engine.ts'
import type { Story } from '../query/story.ts'
import type { ServiceOptions } from './command.ts'
import { paint, printReport } from './terminal/output.ts'

/** An engine works as long as it takes, and answers within this process, in milliseconds. */
const embeddedMs = 2 ** 31 - 1

/**
 * Opens the target of a command: a server, or one in this process over the engine of a data directory.
 * @param data the directory; undefined: asks the server at the address
 */
export async function openServer(
  { url, key, app, json, audit = false }: ServiceOptions,
  data: string | undefined,
): Promise<{ readonly reach: ExchangeOptions; close(): Promise<void> }> {
  if (data === undefined) return { reach: { url, key }, close: async () => {} }
  // Loaded only here: the engine is large, and a command for a server needs none of it.
  const { openEmbedded } = await import('../offline/embedded.ts')
  const { server } = await import('../server/index.ts')
  const engine = await openEmbedded({ data, app, audit, report: printReport(json) })
  const operator = { principal: '', permissions: ['admin'] }
  const { fetch } = server(engine, { authenticate: () => operator, report: printReport(json) })
  const reach: ExchangeOptions = {
    url: 'http://localhost',
    fetch: (address, init) => fetch(new Request(address, init)),
    timeoutMs: embeddedMs,
  }
  return { reach, close: () => engine.close() }
}

/** Asks a server, and returns the body of its answer, or throws the error that it answers with. */
export async function ask<T>(exchange: Exchange, call: HttpCall): Promise<T> {
  const answer = await exchange.ask(call)
  if (answer.status === 200 || answer.status === 204) return answer.body as T
  throw problemOf(answer) ?? notUnderstood(answer)
}

export type Opened = ReturnType<typeof serviceOf>
type EffectShown = NonNullable<Awaited<ReturnType<Engine<App>['effects']['get']>>>

function serviceOf(reach: ExchangeOptions, service: Connection<App>) {
  const exchange = new Exchange(reach)
  const get = <T>(path: string) => ask<T>(exchange, { path })
  const ofRequest = (requestId: string, below: string, principal: string | undefined) => {
    const query = principal === undefined ? '' : `?principal=${encodeURIComponent(principal)}`
    return `/requests/${encodeURIComponent(requestId)}${below}${query}`
  }
  return {
    service,
    /** Yields effects in a state, oldest first within a type; reads a page at a time. */
    async *effects(wanted: { readonly state: EffectState['state']; readonly type?: string }) {
      let cursor: { cursor?: string } | undefined = {}
      while (cursor !== undefined) {
        const query = new URLSearchParams({ ...wanted, limit: '1000', ...cursor })
        const page = await get<{ effects: EffectState[]; cursor?: string }>(`/effects?${query}`)
        yield* page.effects
        cursor = page.cursor === undefined ? undefined : { cursor: page.cursor }
      }
    },
    views: async () => (await get<EngineStats>('/status')).views,
    /** Sends a request of an operator; `why` is the reason if it is not accepted. */
    async decide(type: string, input: object, requestId: string) {
      const reply = await service.submit(type as never, input as never, { requestId })
      const { status, reason: why = '' } = reply as { status: string; reason?: string }
      return { reply, isAccepted: status === 'accepted', text: `${paint.warn(status)} ${why}` }
    },
    effect: (id: string) => get<EffectShown>(`/effects/${encodeURIComponent(id)}`),
    story: (requestId: string, principal: string | undefined) =>
      get<Story>(ofRequest(requestId, '', principal)),
    receipt: (requestId: string, principal: string | undefined) =>
      get<Receipt>(ofRequest(requestId, '/receipt', principal)),
    head: () => get<SignedHead>('/audit/head'),
    consistency: (from: readonly number[]) => get<Consistency>(`/audit/consistency?from=${from.join(',')}`),
  }
}

export async function withService<T>(
  options: ServiceOptions,
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const { reach, close } = await openServer(options, options.data)
  const { connect } = await import('../client/connect.ts')
  // A person is waiting, so give up earlier than a program would.
  const service = connect<App>(reach.url, { ...reach, patienceMs: 5_000 })
  try {
    return await work(serviceOf(reach, service))
  } finally {
    await close()
  }
}
