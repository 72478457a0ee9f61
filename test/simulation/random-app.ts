import fc from 'fast-check'
import { app, type Event, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

/**
 * Random apps, as data. Each derivation is a list of actions; the app below performs them with `tx`, and
 * `model.ts` with a plain Map. No two actions commute: a row ends as a hash-like mix of everything done to it, in
 * order, so a lost, doubled or reordered action shows.
 */
export interface AppPlan {
  /** Actions of each kind of request. */
  readonly requests: readonly (readonly Action[])[]
  /** Actions of the reaction to each kind of event. */
  readonly reactions: readonly (readonly Action[])[]
}

export type Action =
  /** Mixes a number into the one row of the key. */
  | { readonly do: 'mix'; readonly by: number }
  /** Puts a row of the key's list. */
  | { readonly do: 'put'; readonly slot: number }
  /** Deletes a row of the list. */
  | { readonly do: 'delete'; readonly slot: number }
  /** Mixes the rows that a scan of the list returns. */
  | { readonly do: 'scan' }
  /** Mixes a random number that is seeded by the record. */
  | { readonly do: 'random' }
  /** Emits an event, unless the chain is long enough. */
  | { readonly do: 'emit'; readonly event: number; readonly hop: number }
  /** Rejects (a request) or throws if the row's mix is divisible. */
  | { readonly do: 'reject'; readonly when: number }
  | { readonly do: 'throw'; readonly when: number }

export const kinds = 3
/** The longest chain of events, since every reaction may emit. */
export const hopsMax = 3
export const keyCount = 12
export const keyOf = (number: number): string => `key-${((number % keyCount) + keyCount) % keyCount}`

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('mix' as const), by: fc.nat(1000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('put' as const), slot: fc.nat(3) }) },
  fc.record({ do: fc.constant('delete' as const), slot: fc.nat(3) }),
  fc.record({ do: fc.constant('scan' as const) }),
  fc.record({ do: fc.constant('random' as const) }),
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('emit' as const),
      event: fc.nat(kinds - 1),
      hop: fc.nat(keyCount),
    }),
  },
  fc.record({ do: fc.constant('reject' as const), when: fc.integer({ min: 2, max: 9 }) }),
  fc.record({ do: fc.constant('throw' as const), when: fc.integer({ min: 2, max: 9 }) }),
)
const actions = fc.array(action, { maxLength: 5 })
export const appPlan: fc.Arbitrary<AppPlan> = fc.record({
  requests: fc.array(actions, { minLength: kinds, maxLength: kinds }),
  reactions: fc.array(actions, { minLength: kinds, maxLength: kinds }),
})

/** The data of a request or event of these apps. */
export interface Payload {
  readonly key: number
  readonly value: number
  readonly hops: number
}

export const mix = (before: number, by: number): number =>
  (Math.imul(before ^ by, 0x9e3779b1) ^ (before >>> 15)) >>> 0

export function plannedApp(plan: AppPlan) {
  const [thing] = scopes('thing')
  const payload = z.object({ key: z.int(), value: z.int(), hops: z.int() })
  const mixes = thing.table('mixes', { value: z.object({ mix: z.int() }), indexes: { byMix: ['mix'] } })
  const lists = thing.table('lists', { value: z.object({ value: z.int() }), key: ['number'] })
  const events: Event<'thing', string, Payload>[] = plan.reactions.map((_, i) =>
    thing.event(`event-${i}`, { data: payload, key: ({ key }) => keyOf(key) }),
  )

  function carryOut(tx: Tx<'thing'>, todo: readonly Action[], input: Payload): 'rejected' | number {
    let state = tx.get(mixes)?.mix ?? 0
    const put = (value: number) => {
      state = value
      tx.put(mixes, { mix: value })
    }
    put(mix(state, input.value))
    for (const each of todo) {
      if (each.do === 'mix') put(mix(state, each.by))
      else if (each.do === 'put') tx.put(lists, each.slot, { value: state })
      else if (each.do === 'delete') put(mix(state, tx.delete(lists, each.slot) ? 1 : 2))
      else if (each.do === 'scan')
        for (const { key, value } of tx.scan(lists)) put(mix(state, key[0] + value.value))
      else if (each.do === 'random') put(mix(state, Math.floor(tx.random() * 2 ** 32)))
      else if (each.do === 'emit') {
        if (input.hops >= hopsMax) continue
        tx.emit(events[each.event]!, { key: input.key + each.hop, value: state, hops: input.hops + 1 })
      } else if (state % each.when === 0) {
        if (each.do === 'throw') throw new Error(`divided by ${each.when}`)
        return 'rejected'
      }
    }
    return state
  }

  return app('planned', {
    tables: [mixes, lists],
    requests: plan.requests.map((todo, i) =>
      thing.request(`request-${i}`, {
        input: payload,
        key: ({ key }) => keyOf(key),
        derive(tx, input) {
          const result = carryOut(tx, todo, input)
          return result === 'rejected' ? reject('divided') : { mix: result }
        },
      }),
    ),
    reactions: plan.reactions.map((todo, i) =>
      thing.on(events[i]!, (tx, data) => {
        carryOut(tx, todo, data)
      }),
    ),
  })
}
