import type { App, Claim, Constraint } from '../app/index.ts'

/** The judges of a request: the constraints that it claims under other keys than its own. */
export interface RequestJudges {
  readonly type: string
  /** How many requests of the log were looked at. */
  readonly of: number
  /** By constraint: the scope that judges, and how many requests claim it; a `strict` one holds them. */
  readonly judges: readonly (Pick<Constraint, 'scope' | 'mode'> & {
    readonly constraint: string
    readonly count: number
  })[]
}

export class JudgesOfRequests {
  readonly #requests = new Map<string, { of: number; readonly counts: Map<string, number> }>()

  add(type: string, judges: readonly string[]): void {
    const request = this.#requests.get(type) ?? { of: 0, counts: new Map<string, number>() }
    this.#requests.set(type, request)
    request.of++
    for (const name of judges) request.counts.set(name, (request.counts.get(name) ?? 0) + 1)
  }

  /** Of each request of an app with constraints. */
  all({ requests, constraints }: App): RequestJudges[] {
    if (constraints.size === 0) return []
    return [...requests.keys()].sort().map((type) => {
      const { of = 0, counts = [] } = this.#requests.get(type) ?? {}
      const judges = [...counts].sort().map(([constraint, count]) => {
        const { scope, mode } = constraints.get(constraint)!
        return { constraint, scope, mode, count }
      })
      return { type, of, judges }
    })
  }
}

/** The constraints that are claimed under other keys than one. */
export function judgesBeside(key: unknown, claims: readonly Claim[]): string[] {
  return [...new Set(claims.flatMap((claim) => (claim.key === key ? [] : [claim.constraint])))]
}
