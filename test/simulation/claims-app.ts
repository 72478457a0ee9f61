import fc from 'fast-check'
import { app, type Constraint, type Mode, reject, scopes, type Victims } from 'hence'
import { z } from 'zod'

/** Random apps of claims, as data: which constraints there are. Their names are `c0`, `c1` …, each with a scope of its own. */
export interface ClaimsPlan {
  readonly constraints: readonly {
    readonly kind: 'unique' | 'capacity'
    readonly mode: Mode
    readonly limit: number
    readonly overbook?: number
    readonly victims: Victims
    readonly review: 'auto' | 'human'
  }[]
}

export const keyCount = 3
export const deadlineMs = 1_000

const mode = fc.constantFrom<Mode>('strict', 'loose')
const victims = fc.constantFrom<Victims>('newest', 'oldest', 'lowest-priority')
const review = fc.constantFrom<'auto' | 'human'>('auto', 'auto', 'auto', 'human')
export const claimsPlan: fc.Arbitrary<ClaimsPlan> = fc.record({
  constraints: fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('unique' as const), mode, limit: fc.constant(1), victims, review }),
      fc.record({
        kind: fc.constant('capacity' as const),
        mode,
        limit: fc.nat(5),
        overbook: fc.nat(2),
        victims,
        review,
      }),
    ),
    { minLength: 1, maxLength: 4 },
  ),
})

/** The claims that a request asks for. */
export interface Wants {
  readonly holder: number
  readonly wants: readonly {
    readonly of: number
    readonly key: number
    readonly units: number
    readonly priority: number
  }[]
  readonly isRejected: boolean
}
export const wants: fc.Arbitrary<Wants> = fc.record({
  holder: fc.nat(5),
  wants: fc.array(
    fc.record({
      of: fc.nat(3),
      key: fc.nat(keyCount - 1),
      units: fc.integer({ min: 1, max: 3 }),
      priority: fc.nat(2),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  isRejected: fc.nat(7).map((n) => n === 0),
})

/**
 * The app records in `holdings` (holder and request → claims) what its requests hold, from what its derivations learn.
 */
export function claimsApp(plan: ClaimsPlan) {
  const [holder] = scopes('holder')
  const held = z.object({ constraint: z.string(), key: z.string(), units: z.int() })
  const holdings = holder.table('holdings', { key: ['string'], value: z.object({ wants: z.array(held) }) })
  const sorry = holder.table('sorry', { key: ['string'], value: z.object({ times: z.int() }) })
  const gone = holder.event('gone', {
    data: z.object({ holder: z.string(), requestId: z.string(), constraint: z.string(), key: z.string() }),
    key: (data) => data.holder,
  })

  const judges = plan.constraints.map((each, i) => {
    const [judge] = scopes(`judge-${i}`)
    const { kind, mode, limit, overbook = 0, victims, review } = each
    const common = { mode, victims, review, deadlineMs }
    const constraint: Constraint =
      kind === 'unique'
        ? judge.unique(`c${i}`, common)
        : judge.capacity(`c${i}`, { ...common, limit, overbook })
    const setLimit = judge.request(`limit-${i}`, {
      input: z.object({ key: z.int(), limit: z.int() }),
      key: (input) => `k${input.key}`,
      derive(tx, input) {
        if (kind === 'unique') return reject('unique')
        tx.setLimit(constraint as never, input.limit)
      },
    })
    const settle = judge.request(`settle-${i}`, {
      input: z.object({ key: z.int() }),
      key: (input) => `k${input.key}`,
      derive(tx) {
        const all = tx.settle(constraint as never)
        for (const { requestId, key: holder } of all)
          tx.emit(gone, { holder, requestId, constraint: constraint.name, key: tx.key })
        return { count: all.length }
      },
    })
    return { constraint, setLimit, settle }
  })
  const constraints = judges.map(({ constraint }) => constraint)

  /** Several claims on one key are one, of all their units; of a unique constraint they are one of one unit. */
  function wantsOf(input: Wants) {
    const merged = new Map<string, z.infer<typeof held>>()
    for (const { of, key, units } of input.wants) {
      const isUnique = plan.constraints[of]!.kind === 'unique'
      const before = merged.get(`${of} ${key}`)?.units ?? 0
      merged.set(`${of} ${key}`, {
        constraint: `c${of}`,
        key: `k${key}`,
        units: isUnique ? 1 : before + units,
      })
    }
    return [...merged.values()]
  }

  const want = holder.request('want', {
    input: z.object({
      holder: z.int(),
      wants: z.array(z.object({ of: z.int(), key: z.int(), units: z.int(), priority: z.int() })),
      isRejected: z.boolean(),
    }),
    key: (input) => `h${input.holder}`,
    claims: (input) =>
      input.wants.map(({ of, key, units, priority }) =>
        constraints[of]!.claim(`k${key}`, plan.constraints[of]!.kind === 'unique' ? 1 : units, { priority }),
      ),
    derive(tx, input) {
      if (input.isRejected) return reject('not-wanted')
      tx.put(holdings, tx.requestId, { wants: wantsOf(input) })
    },
    compensate(tx) {
      tx.delete(holdings, tx.requestId)
      tx.put(sorry, tx.requestId, { times: (tx.get(sorry, tx.requestId)?.times ?? 0) + 1 })
    },
  })

  const release = holder.request('release', {
    input: z.object({ holder: z.int(), of: z.int() }),
    key: (input) => `h${input.holder}`,
    derive(tx, { of }) {
      const count = tx.release(constraints[of]!)
      for (const { key, value } of tx.scan(holdings)) {
        const rest = value.wants.filter(({ constraint }) => constraint !== `c${of}`)
        tx.put(holdings, key[0], { wants: rest })
      }
      return { count }
    },
  })
  const confirm = holder.request('confirm', {
    input: z.object({ holder: z.int(), of: z.int() }),
    key: (input) => `h${input.holder}`,
    derive: (tx, { of }) => ({ count: tx.confirm(constraints[of]!) }),
  })
  const onGone = holder.on(gone, (tx, { requestId, constraint, key }) => {
    const row = tx.get(holdings, requestId)
    if (!row) return
    const rest = row.wants.filter((each) => each.constraint !== constraint || each.key !== key)
    tx.put(holdings, requestId, { wants: rest })
  })

  return app('claims', {
    requests: [want, release, confirm, ...judges.flatMap(({ setLimit, settle }) => [setLimit, settle])],
    tables: [holdings, sorry],
    constraints,
    reactions: [onGone],
  })
}
