import { app, type Constraint, reject, scopes, type Tx } from 'hence'
import type { ClaimsPlan, Wants } from '../simulation/claims-plan.ts'
import { anything } from './anything.ts'

const deadlineMs = 1_000

interface Held {
  constraint: string
  key: string
  units: number
  waits?: true
}

/**
 * The app records in `holdings` (holder and request → claims) what its requests hold, from what its
 * derivations learn.
 */
export function claimsApp(plan: ClaimsPlan) {
  const [holder] = scopes('holder')
  const holdings = holder.table('holdings', {
    key: ['string'],
    value: anything<{ number: number; wants: Held[] }>(),
  })
  const sorry = holder.table('sorry', { key: ['string'], value: anything<{ times: number }>() })
  const gone = holder.event('gone', {
    data: anything<Record<'requestId' | 'constraint' | 'judged' | 'key', string>>(),
    key: (data) => data.key,
  })

  const judges = plan.constraints.map((each, i) => {
    const [judge] = scopes(`judge-${i}`)
    const { kind, mode, limit, overbook = 0, victims, review, waitingList } = each
    const common = { mode, victims, review, deadlineMs, ...(waitingList && { waitingList }) }
    const constraint: Constraint =
      kind === 'unique'
        ? judge.unique(`c${i}`, common)
        : judge.capacity(`c${i}`, { ...common, limit, overbook })
    const setLimit = judge.request(`limit-${i}`, {
      input: anything<{ key: number; limit: number }>(),
      key: (input) => `k${input.key}`,
      derive(tx, input) {
        if (kind === 'unique') return reject('unique')
        tx.setLimit(constraint as never, input.limit)
      },
    })
    const settle = judge.request(`settle-${i}`, {
      input: anything<{ key: number }>(),
      key: (input) => `k${input.key}`,
      derive(tx) {
        return { units: tx.settle(constraint as never, gone as never) }
      },
    })
    return { constraint, setLimit, settle }
  })
  const constraints = judges.map(({ constraint }) => constraint)

  /** Several claims on one key are one, of all their units; of a unique constraint they are one of one unit. */
  function wantsOf(input: Wants) {
    const merged = new Map<string, Held>()
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

  function mark(tx: Tx<'holder'>, { constraint, key }: { constraint: string; key: string }, waits: boolean) {
    const row = tx.get(holdings, tx.requestId)!
    const wants = row.wants.map((each) => {
      if (each.constraint !== constraint || each.key !== key) return each
      const { waits: _, ...rest } = each
      return waits ? { ...rest, waits } : rest
    })
    tx.put(holdings, tx.requestId, { ...row, wants })
  }

  const want = holder.request('want', {
    input: anything<Wants>(),
    key: (input) => `h${input.holder}`,
    claims: (input) =>
      input.wants.map(({ of, key, units, priority }) =>
        constraints[of]!.claim(`k${key}`, plan.constraints[of]!.kind === 'unique' ? 1 : units, {
          priority,
          exchange: input.exchange ?? false,
          wait: !input.exchange && input.wait === true && plan.constraints[of]!.waitingList !== undefined,
        }),
      ),
    derive(tx, input) {
      if (input.isRejected) return reject('not-wanted')
      const wants = wantsOf(input)
      const isReplaced = (held: Held) =>
        wants.some(({ constraint, key }) => held.constraint === constraint && held.key === key)
      if (input.gives) for (const { of, key } of input.wants) tx.release(constraints[of]!, `k${key}`)
      for (const { key, value } of input.exchange || input.gives ? tx.scan(holdings) : [])
        tx.put(holdings, key[0], { ...value, wants: value.wants.filter((held) => !isReplaced(held)) })
      const number = 1 + Math.max(0, ...tx.scan(holdings).map(({ value }) => value.number))
      tx.put(holdings, tx.requestId, { number, wants })
    },
    queued: (tx, _, cause) => mark(tx, cause, true),
    served: (tx, _, cause) => mark(tx, cause, false),
    compensate(tx, _, { violation }) {
      tx.delete(holdings, tx.requestId)
      if (violation === null) return
      tx.put(sorry, tx.requestId, { times: (tx.get(sorry, tx.requestId)?.times ?? 0) + 1 })
    },
  })

  const release = holder.request('release', {
    input: anything<{ holder: number; of: number }>(),
    key: (input) => `h${input.holder}`,
    derive(tx, { of }) {
      const count = tx.release(constraints[of]!)
      for (const { key, value } of tx.scan(holdings)) {
        const rest = value.wants.filter(({ constraint }) => constraint !== `c${of}`)
        tx.put(holdings, key[0], { ...value, wants: rest })
      }
      return { count }
    },
  })
  const give = holder.request('give', {
    input: anything<{ holder: number; of: number; key: number; units: number }>(),
    key: (input) => `h${input.holder}`,
    derive(tx, { of, key, units }) {
      const count = tx.release(constraints[of]!, `k${key}`, units)
      let left = units
      let seen = 0
      // Claims in line have no units yet, and are given back last.
      for (const isInLine of [false, true]) {
        const held = tx.scan(holdings).sort((a, b) => b.value.number - a.value.number)
        for (const { key: id, value } of held) {
          const wants = value.wants.flatMap((want) => {
            if (want.constraint !== `c${of}` || want.key !== `k${key}` || left === 0) return want
            if ((want.waits ?? false) !== isInLine) return want
            const part = Math.min(left, want.units)
            left -= part
            seen++
            return part === want.units ? [] : { ...want, units: want.units - part }
          })
          tx.put(holdings, id[0], { ...value, wants })
        }
      }
      if (seen !== count) throw new Error(`${count} claims were given back, and not ${seen}`)
    },
  })
  const confirm = holder.request('confirm', {
    input: anything<{ holder: number; of: number }>(),
    key: (input) => `h${input.holder}`,
    derive: (tx, { of }) => ({ count: tx.confirm(constraints[of]!) }),
  })
  const onGone = holder.on(gone, (tx, { requestId, constraint, judged: key }) => {
    const row = tx.get(holdings, requestId)
    if (!row) return
    const rest = row.wants.filter((each) => each.constraint !== constraint || each.key !== key)
    tx.put(holdings, requestId, { ...row, wants: rest })
  })

  return app('claims', {
    requests: [want, release, give, confirm, ...judges.flatMap(({ setLimit, settle }) => [setLimit, settle])],
    tables: [holdings, sorry],
    constraints,
    reactions: [onGone],
  })
}
