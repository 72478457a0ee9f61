import type { App } from '../app/index.ts'
import { type Connection, connect } from '../client/connect.ts'
import { Exchange, notUnderstood, problemOf } from '../client/exchange.ts'
import type { Story } from '../derivation/story.ts'
import type { ServiceOptions } from './address.ts'
import { printReport } from './output.ts'

/** What a command works on: the server at an address, or the engine of a data directory, opened here. */
export interface Opened {
  readonly service: Pick<Connection<App>, 'submit' | 'get' | 'scan' | 'close'>
  /** All that became of a request; undefined when its id is not known. */
  story(requestId: string, principal: string | undefined): Promise<Story | undefined>
}

export async function openService(options: ServiceOptions): Promise<Opened> {
  const { url, key, data, app, json } = options
  if (data !== undefined) {
    // The engine is large, and whoever asks a server needs none of it.
    const { openEmbedded } = await import('./embedded.ts')
    const engine = await openEmbedded({ data, app, report: printReport(json === true) })
    return {
      service: engine,
      story: (requestId, principal) => engine.story(requestId, principal === undefined ? {} : { principal }),
    }
  }
  const reach = { url, ...(key !== undefined && { key }) }
  return {
    // A person waits, so not for as long as a program would.
    service: connect<App>(url, { ...reach, patienceMs: 5_000 }),
    async story(requestId, principal) {
      const query = principal === undefined ? '' : `?principal=${encodeURIComponent(principal)}`
      const answer = await new Exchange(reach).ask({
        path: `/requests/${encodeURIComponent(requestId)}${query}`,
      })
      if (answer.status === 200) return answer.body as Story
      const problem = problemOf(answer) ?? notUnderstood(answer)
      if (problem.code === 'request-not-found') return undefined
      throw problem
    },
  }
}

/** Opens, works, and closes, however the work ends. */
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
