import fc from 'fast-check'
import { keyCount } from '../apps/planned.ts'

/**
 * Random apps, as data. Each derivation is a list of actions; the app below performs them with `tx`, and
 * `model.ts` with a plain Map. No two actions commute: a row ends as a hash-like mix of everything done to
 * it, in order, so a lost, doubled or reordered action shows.
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
