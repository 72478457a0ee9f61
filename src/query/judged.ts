import type { Constraint } from '../app/index.ts'
import type { ClaimRow, Usage, UsageShown, Victim, Violation } from '../constraint/tables.ts'
import { claims, usage, usageShown, victims, violations } from '../constraint/tables.ts'
import { senderOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'
import type { TableRow, TableShape, TableState } from '../state/table.ts'

/** A violation, the key that its constraint is judged under, and its first victims: 100 at most. */
export type KeyedViolation = Violation & { readonly key: string; readonly victims: readonly Victim[] }

/** How many victims are shown with a violation; `hence.victims` has all. */
export const victimsShown = 100

/** A claim that was granted, and the request that holds it. */
export type KeyedClaim = Pick<ClaimRow, 'units' | 'priority' | 'at' | 'confirmed'> & {
  readonly requestId: string
  readonly principal: string
  /** The partition key of that request. */
  readonly key: string
}

export type JudgedReader = ReturnType<typeof judgedReader>

export function judgedReader(tables: ReadonlyMap<string, TableState>) {
  const system = ({ name }: TableShape) => tables.get(name)!
  const usageAt = (key: string, constraint: string) =>
    system(usage).get(encodeKey([key, constraint])) as Usage | undefined
  const withVictims = (key: string, violation: Violation): KeyedViolation => {
    const rows = system(victims).scan({ prefix: [violation.id], limit: victimsShown }, encodeKey([key]))
    return { ...violation, key, victims: rows.map(({ value }) => value as Victim) }
  }
  return {
    violation(key: string, id: string): KeyedViolation | undefined {
      const row = system(violations).get(encodeKey([key, id]))
      return row === undefined ? undefined : withVictims(key, row as Violation)
    },
    /** Violations, oldest first within a state. */
    violations(options: { state?: Violation['state']; limit: number }): KeyedViolation[] {
      const { state, limit } = options
      const query = { index: 'byState', prefix: state === undefined ? [] : [state], limit }
      const rows = system(violations).scan(query)
      return rows.map(({ key, value }) => withVictims(key[0] as string, value as Violation))
    },
    usage: (constraint: Constraint, key: string): UsageShown =>
      usageShown(constraint, usageAt(key, constraint.name)),
    /** The claims on a key, those that give way first before the others. */
    claims(constraint: string, key: string, limit: number): KeyedClaim[] {
      const row = usageAt(key, constraint)
      const query = { prefix: [constraint], ...(row?.ordered && { index: 'victims', limit }) }
      const rows = system(claims).scan(query, encodeKey([key]))
      const inOrder = row?.ordered ? rows : rows.sort(byOrder).slice(0, limit)
      return inOrder.map(({ key: [, , identity], value }) => {
        const { units, priority, at, confirmed, holder } = value as ClaimRow
        return { ...senderOf(identity as string), key: holder, units, priority, at, confirmed }
      })
    },
  }
}

function byOrder({ key: [, , a], value: x }: TableRow, { key: [, , b], value: y }: TableRow): number {
  const [first, second] = [x as ClaimRow, y as ClaimRow]
  return (
    Number(first.confirmed) - Number(second.confirmed) ||
    first.rank - second.rank ||
    first.order - second.order ||
    (a! < b! ? -1 : 1)
  )
}
