import { operatorTables } from '../constraint/tables.ts'
import type { EngineStats } from '../engine/engine.ts'
import type { Answer } from './answer.ts'
import { allows } from './caller.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Metrics, Submits } from './metrics.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

/** The caller of `GET /me`, and the names of the app. */
export interface Me {
  readonly principal: string
  readonly permissions: readonly string[]
  readonly app: string
  readonly version: string
  readonly partitions: number
  readonly requests: readonly string[]
  readonly tables: readonly {
    readonly name: string
    /** The kinds of the parts of its key. */
    readonly key: readonly string[]
    readonly indexes: Readonly<Record<string, readonly string[]>>
  }[]
  readonly effects: readonly string[]
  readonly constraints: readonly {
    readonly name: string
    readonly scope: string
    readonly mode: string
    readonly victims: string
    readonly review: string
  }[]
}

/** `GET /me`: who the caller is, and what the app has. */
export function me({ engine }: Serving, { request, caller }: Arrival): Answer {
  const { app } = engine
  const { version, applied } = engine.stats()
  const tables = [...app.tables.values(), ...(allows(caller, 'operate') ? operatorTables.values() : [])]
  const answer: Me = {
    principal: caller.principal,
    permissions: caller.permissions,
    app: app.name,
    version,
    partitions: applied.length,
    requests: [...app.requests.keys()],
    tables: tables.map(({ name, parts, indexes }) => ({ name, key: ['string', ...parts], indexes })),
    effects: [...app.effects.keys()],
    constraints: [...app.constraints.values()].map(({ name, scope, mode, victims, review }) => {
      return { name, scope, mode, victims, review }
    }),
  }
  return jsonAnswer(request, answer)
}

/** The counters of `GET /status`. */
export interface Status extends EngineStats {
  /** The time of the server, in milliseconds since 1970. */
  readonly now: number
  /** Why the engine takes no requests; left out if it does. */
  readonly notReady?: string
  /** By partition: the end of its log. */
  readonly ends: readonly number[]
  readonly submits: Submits
}

/** `GET /status`: the counters of the engine, as JSON. */
export async function status(
  { engine, clock }: Serving,
  metrics: Metrics,
  { request }: Arrival,
): Promise<Answer> {
  const health = await engine.health()
  const answer: Status = {
    ...engine.stats(),
    now: clock.now(),
    ...(!health.ready && { notReady: health.code }),
    ends: await engine.log.ends(),
    submits: metrics.submits,
  }
  return jsonAnswer(request, answer)
}
