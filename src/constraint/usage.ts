import type { Constraint, Victims } from '../app/index.ts'
import { assert } from '../assert.ts'
import { encodeKey } from '../state/keys.ts'
import { type ClaimRow, limitWithMargin, type Usage, unused } from './tables.ts'
import type { Turn } from './turn.ts'
import { serve } from './waiting-list.ts'

// The rows that a judge keeps of the claims on its key.

/** The usage of a constraint at this key. */
export function usageOf(turn: Turn, { name }: Constraint): Usage {
  return (turn.rows('usage').get(encodeKey([turn.key, name])) as Usage | undefined) ?? unused
}

/** The place of a claim in the order in which claims give way. */
export function placeOf(victims: Victims, priority: number, n: number): Pick<ClaimRow, 'rank' | 'order'> {
  return { rank: victims === 'lowest-priority' ? priority : 0, order: victims === 'oldest' ? n : 0 - n }
}

export function newRow(
  turn: Turn,
  { name, victims }: Constraint,
  { count, ordered }: Pick<Usage, 'count' | 'ordered'>,
  { units, priority, holder, scope }: Pick<ClaimRow, 'units' | 'priority' | 'holder' | 'scope'>,
): ClaimRow {
  return {
    constraint: ordered ? name : null,
    units,
    priority,
    at: turn.now,
    confirmed: false,
    holder,
    scope,
    ...placeOf(victims, priority, count),
  }
}

/** A key with more claims than this has them in order before its first excess, so that no step takes long. */
export const unorderedMax = 4_096

/**
 * Indexes the claims at this key in the order in which they give way, if they are not: at its first excess.
 * Most keys never have one, and the index takes as much space as the claims.
 */
export function order(turn: Turn, constraint: Constraint): Usage {
  const { name } = constraint
  const usage = usageOf(turn, constraint)
  if (usage.ordered) return usage
  const rows = turn.rows('claims')
  for (const { key, value } of rows.scan({ prefix: [name] }, encodeKey([turn.key]))) {
    const row = value as ClaimRow
    if (row.units > 0) rows.replace(encodeKey(key), row, { ...row, constraint: name })
  }
  const ordered: Usage = { ...usage, ordered: true }
  turn.rows('usage').put(encodeKey([turn.key, name]), ordered)
  return ordered
}

/** Saves the usage; free units go to the claims that wait. */
export function save(turn: Turn, constraint: Constraint, saved: Usage): void {
  const room = limitWithMargin(constraint, saved) - saved.claimed
  const usage = serve(turn, constraint, saved, room, (identity, { number, ...row }) => {
    const granted = { ...newRow(turn, constraint, { ...saved, count: number }, row), served: saved.count }
    turn.rows('claims').put(encodeKey([turn.key, constraint.name, identity]), granted, true)
  })
  const rows = turn.rows('usage')
  const key = encodeKey([turn.key, constraint.name])
  // A waiver ends with the claims that it covers.
  const waived = Math.min(usage.waived, Math.max(0, usage.claimed - limitWithMargin(constraint, usage)))
  assert(usage.confirmed >= 0, 'a key never has less than 0 units confirmed', usage.confirmed)
  assert(usage.claimed >= usage.confirmed, 'confirmed units are claimed', usage.claimed, usage.confirmed)
  assert(usage.waived >= 0, 'a waived excess is never negative', usage.waived)
  assert(usage.count >= 0, 'claims are counted up', usage.count)
  const { set, adjusted, claimed, waiting, settled, violation } = usage
  const isUnclaimed = claimed === 0 && waiting === 0 && !usage.empty
  const isAsNew = set === null && adjusted === 0 && isUnclaimed && !settled
  if (isAsNew && violation === null) rows.delete(key)
  else rows.put(key, { ...usage, waived })
}

/** A claim at this key; undefined if there is none, or `settle` is about to release it. */
export function claimOf(
  turn: Turn,
  { settling }: Usage,
  constraint: string,
  identity: string,
): ClaimRow | undefined {
  const row = turn.rows('claims').get(encodeKey([turn.key, constraint, identity])) as ClaimRow | undefined
  return row && settling !== null && isSettled(row, settling) ? undefined : row
}

/** Whether `settle` releases a claim: it was granted at a number below `before`, and is not confirmed. */
export function isSettled({ confirmed, order, served }: ClaimRow, before: number): boolean {
  return !confirmed && (served ?? Math.abs(order)) < before
}

/** @param row as `claimOf` returns it */
export function take(turn: Turn, usage: Usage, name: string, identity: string, row: ClaimRow): Usage {
  turn.rows('claims').delete(encodeKey([turn.key, name, identity]), row)
  return plus(usage, row, -1)
}

/** Adds a claim that the key does not have, and returns the usage with it. */
export function add(turn: Turn, usage: Usage, name: string, identity: string, row: ClaimRow): Usage {
  turn.rows('claims').put(encodeKey([turn.key, name, identity]), row, true)
  return plus(usage, row, 1)
}

function plus(usage: Usage, { units, confirmed }: ClaimRow, sign: 1 | -1): Usage {
  if (units === 0) return { ...usage, empty: (usage.empty ?? 0) + sign }
  const claimed = usage.claimed + sign * units
  return { ...usage, claimed, confirmed: usage.confirmed + (confirmed ? sign * units : 0) }
}
