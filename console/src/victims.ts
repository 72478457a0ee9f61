import type { ViolationView } from './api.ts'

type Claim = ViolationView['claims'][number]

export const policies = ['newest', 'oldest', 'lowest-priority'] as const
export type Policy = (typeof policies)[number]

/** The claims that give way under a policy, until their units cover the excess; confirmed ones come last. */
export function sacrificed(claims: readonly Claim[], excess: number, policy: Policy): readonly Claim[] {
  const order = [...claims].sort(
    (a, b) =>
      Number(a.confirmed) - Number(b.confirmed) ||
      (policy === 'lowest-priority' ? a.priority - b.priority : 0) ||
      (policy === 'oldest' ? a.at - b.at : b.at - a.at),
  )
  const chosen: Claim[] = []
  let left = excess
  for (const claim of order) {
    if (left <= 0) break
    chosen.push(claim)
    left -= claim.units
  }
  return chosen
}
