import { isView } from '../app/view.ts'
import { operatorTables } from '../constraint/tables.ts'
import { allows, type Caller } from './caller.ts'
import type { Metrics } from './metrics.ts'
import type { Serving } from './serving.ts'

/** The answer of `GET /me`. */
export type Me = ReturnType<typeof me>

export function me({ engine }: Serving, { principal, permissions }: Caller) {
  const { app } = engine
  const { version, applied, pastSince: since, logTime: until } = engine.stats()
  const isOperator = allows({ principal, permissions }, 'operate')
  const tables = [...app.tables.values(), ...(isOperator ? operatorTables.values() : [])]
  return {
    principal,
    permissions,
    app: app.name,
    version,
    partitions: applied.length,
    /** The log times as of which rows can be read. */
    past: allows({ principal, permissions }, 'read') && since !== undefined ? { since, until } : undefined,
    requests: [...app.requests.keys()],
    tables: tables.map((table) => {
      const { name, parts, indexes } = table
      const hasPast = !isView(table) && !operatorTables.has(name)
      return { name, key: ['string', ...parts], indexes, hasPast }
    }),
    effects: [...app.effects.keys()],
    constraints: [...app.constraints.values()].map(({ name, scope, mode, victims, review }) => {
      return { name, scope, mode, victims, review }
    }),
  }
}

/** The answer of `GET /status`. */
export type Status = Awaited<ReturnType<typeof status>>

export async function status({ engine, clock, alarms }: Serving, metrics: Metrics) {
  const health = await engine.health()
  const stats = engine.stats()
  return {
    ...stats,
    /** The last alarm of each code, the newest first. */
    alarms: [...stats.alarms, ...alarms.last].sort((a, b) => b.at - a.at),
    /** The time of the server, in milliseconds since 1970. */
    now: clock.now(),
    /** Why the engine takes no requests; left out if it does. */
    notReady: health.ready ? undefined : health.code,
    /** By partition: the end of its log. */
    ends: await engine.log.ends(),
    submits: metrics.submits,
  }
}
