import fc from 'fast-check'
import type { Mode, Victims, WaitingList } from 'hence'

/** Random apps with claims, as data: their constraints, named `c0`, `c1` …, each in a scope of its own. */
export interface ClaimsPlan {
  /** How many keys and holders there are: with few, much happens to one at once. */
  readonly keys?: number
  readonly holders?: number
  readonly constraints: readonly {
    readonly kind: 'unique' | 'capacity'
    readonly mode: Mode
    readonly limit: number
    readonly overbook?: number
    readonly victims: Victims
    readonly review: 'auto' | 'human'
    readonly waitingList?: WaitingList
  }[]
}

export const keyCount = 3
export const deadlineMs = 1_000

const mode = fc.constantFrom<Mode>('strict', 'loose')
const victims = fc.constantFrom<Victims>('newest', 'oldest', 'lowest-priority')
const review = fc.constantFrom<'auto' | 'human'>('auto', 'auto', 'auto', 'human')
const waitingList: fc.Arbitrary<WaitingList> = fc.record(
  {
    victims: fc.boolean(),
    confirmMs: fc.constantFrom(0, 500, 1_500),
    maxBytes: fc.constantFrom(300, 900, 10_000),
  },
  { requiredKeys: [] },
)
const constraint = fc.oneof(
  fc.record({ kind: fc.constant('unique' as const), mode, limit: fc.constant(1), victims, review }),
  fc.record({
    kind: fc.constant('capacity' as const),
    mode,
    limit: fc.nat(5),
    overbook: fc.nat(2),
    victims,
    review,
  }),
)
const constraintThatLetsWait = fc
  .tuple(constraint, waitingList)
  .map(([plain, waitingList]) => ({ ...plain, waitingList }))

export const claimsPlan: fc.Arbitrary<ClaimsPlan> = fc.record({
  keys: fc.constantFrom(1, keyCount),
  holders: fc.constantFrom(1, 2, 6),
  constraints: fc.array(fc.oneof(constraint, constraintThatLetsWait), { minLength: 1, maxLength: 4 }),
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
  /** Whether it claims all of that in exchange for what requests of its key hold. */
  readonly exchange?: boolean
  /** Whether it releases what its key holds of that, when it is accepted. */
  readonly gives?: boolean
  /** Whether its claims may wait, where the constraint has a waiting list. */
  readonly wait?: boolean
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
  exchange: fc.nat(3).map((n) => n === 0),
  gives: fc.nat(5).map((n) => n === 0),
  wait: fc.boolean(),
})
