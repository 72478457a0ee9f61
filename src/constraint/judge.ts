import type { Constraint, SettledClaim } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'
import { choose, claimsPerStep, review } from './review.ts'
import { type ClaimRow, limitOf, limitWithMargin } from './tables.ts'
import type { Messages, Turn } from './turn.ts'
import { add, claimOf, isSettled, newRow, order, save, take, unorderedMax, usageOf } from './usage.ts'
import { isNext, leave, numberOf, queue } from './waiting-list.ts'

// Judges the claims on a key, in the log order of its partition. Each key has exactly one judge, so verdicts
// agree without locks and without a vote.

/** Judges a claim: grants or denies a strict one; records a loose one in any case. Either may wait instead. */
export function claim(turn: Turn, asked: Messages['hence:claim']): void {
  const { constraint: name, identity, scope, holder, strict, wait, instead = [] } = asked
  const constraint = turn.constraint(name)
  const before = usageOf(turn, constraint)
  const usage = before.count < unorderedMax ? before : order(turn, constraint)
  const replaced = instead.flatMap((each) => claimOf(turn, usage, name, each) ?? [])
  const units = Math.max(
    0,
    replaced.reduce((rest, row) => rest - row.units, asked.units),
  )
  const isFirst = usage.waiting === 0 || isNext(turn, name, instead, units)
  const fits = isFirst && usage.claimed + units <= limitWithMargin(constraint, usage)
  const granted = !strict || units === 0 || fits
  const about = { identity, scope, holder, constraint: name, key: turn.key }
  const count = usage.count + 1
  const waiting = wait && !fits ? queue(turn, constraint, usage, identity, usage.count, asked) : undefined
  if (waiting !== undefined) {
    save(turn, constraint, { ...waiting, count })
    if (!strict) turn.send('hence:queued', holder, { ...about, violation: null })
  } else if (granted) {
    const row = newRow(turn, constraint, usage, { ...asked, units })
    const added: ClaimRow =
      instead.length === 0
        ? row
        : {
            ...row,
            constraint: units === 0 ? null : row.constraint,
            confirmed: replaced.some(({ confirmed }) => confirmed),
            exchanging: true,
          }
    const next = add(turn, { ...usage, count }, name, identity, added)
    if (strict) save(turn, constraint, next)
    else review(turn, constraint, next)
  }
  if (!strict) return
  const verdict = waiting !== undefined ? 'waits' : granted ? 'granted' : wait ? 'full' : 'denied'
  turn.send('hence:verdict', holder, { ...about, verdict })
}

/**
 * Puts the claim of an accepted request in the place of others. It is as old as the oldest of them, and
 * confirmed if one of them is; one that waits is as old as its place in line. If it has given way since it
 * was granted, the request learns of that, and only what it replaces is released. If some of them have given
 * way, and what they had is not free, a strict claim gives way itself: nobody else loses what was granted.
 */
export function exchange(turn: Turn, asked: Messages['hence:exchange']): void {
  const { constraint: name, identity, instead = [] } = asked
  const constraint = turn.constraint(name)
  let usage = usageOf(turn, constraint)
  const own = claimOf(turn, usage, name, identity)
  if (own !== undefined) usage = take(turn, usage, name, identity, own)
  let row = own ?? newRow(turn, constraint, usage, asked)
  let had = own?.units ?? 0
  for (const each of instead) {
    const before = claimOf(turn, usage, name, each)
    if (before === undefined) {
      const number = numberOf(turn, name, each)
      usage = leave(turn, name, usage, each) ?? usage
      const granted = Math.abs(row.order)
      const { order } = newRow(turn, constraint, { ...usage, count: number }, asked)
      if (number < granted) row = { ...row, order, served: row.served ?? granted }
      continue
    }
    usage = take(turn, usage, name, each, before)
    had += before.units
    const { at, order, served } = Math.abs(before.order) < Math.abs(row.order) ? before : row
    const confirmed = row.confirmed || before.confirmed
    row = { ...row, at, order, confirmed, ...(served !== undefined && { served }) }
  }
  const isFree = usage.waiting === 0 && usage.claimed + asked.units <= limitWithMargin(constraint, usage)
  if (own !== undefined && asked.strict && asked.units > had && !isFree) {
    const { scope, holder } = asked
    const waits = constraint.waitingList?.victims
      ? queue(turn, constraint, usage, identity, Math.abs(row.order), asked)
      : undefined
    const lost = { identity, scope, holder, constraint: name, key: turn.key, violation: null }
    turn.send(waits ? 'hence:queued' : 'hence:compensate', holder, lost)
    usage = waits ?? usage
  } else if (own !== undefined || !asked.strict) {
    const { exchanging: _, ...held } = row
    const indexed = usage.ordered ? name : null
    usage = add(turn, usage, name, identity, { ...held, constraint: indexed, units: asked.units })
  }
  review(turn, constraint, { ...usage, count: usage.count + (asked.strict ? 0 : 1) })
}

/** Releases a claim, or some of its units, if the request still holds it. */
export function release(
  turn: Turn,
  { constraint: name, identity, units = Number.POSITIVE_INFINITY }: Messages['hence:release'],
): void {
  const constraint = turn.constraint(name)
  const usage = usageOf(turn, constraint)
  const row = claimOf(turn, usage, name, identity)
  if (row === undefined) {
    const left = leave(turn, name, usage, identity, units)
    if (left !== undefined) save(turn, constraint, left)
    return
  }
  const rest = row.units - units
  const without = take(turn, usage, name, identity, row)
  review(turn, constraint, rest > 0 ? add(turn, without, name, identity, { ...row, units: rest }) : without)
}

export function confirm(turn: Turn, { constraint: name, identity }: Messages['hence:confirm']): void {
  const constraint = turn.constraint(name)
  const usage = usageOf(turn, constraint)
  const row = claimOf(turn, usage, name, identity)
  if (row === undefined) return
  const without = take(turn, usage, name, identity, row)
  save(turn, constraint, add(turn, without, name, identity, { ...row, confirmed: true }))
}

/** Sets or changes the limit, to 0 at the lowest. Claims that exceed it give way after the derivation. */
export function changeLimit(
  turn: Turn,
  constraint: Constraint,
  change: { set: number } | { by: number },
): void {
  if (!constraint.adjustable) {
    throw changeError(
      'claim-invalid',
      `The limit of the unique constraint "${constraint.name}" is 1 and cannot be changed.`,
    )
  }
  const usage = usageOf(turn, constraint)
  const before = limitOf(constraint, usage)
  const limit = 'set' in change ? change.set : Math.max(0, before + change.by)
  if (!Number.isSafeInteger(limit) || limit < 0) {
    throw changeError(
      'claim-invalid',
      `The limit of "${constraint.name}" must be a whole number from 0, not ${limit}.`,
    )
  }
  const changed =
    'set' in change ? { set: limit, adjusted: 0 } : { adjusted: usage.adjusted + limit - before }
  review(turn, constraint, { ...usage, ...changed }, true)
}

/**
 * Ends the margin, and begins to release the claims that are not confirmed. They count no more from here on.
 * @param event the event of the app that is emitted for each
 * @returns its id, the units that they have, and those claims that are released already
 */
export function settle(
  turn: Turn,
  constraint: Constraint,
  event: string | null = null,
): { readonly id: string; readonly units: number; readonly gone: readonly SettledClaim[] } {
  const usage = usageOf(turn, constraint)
  const { claimed, confirmed } = usage
  const before = usage.count + 1
  save(turn, constraint, { ...usage, claimed: confirmed, settled: true, settling: before, count: before })
  const id = turn.id(`settle ${constraint.name}`)
  const gone = settleNext(turn, { id, constraint: constraint.name, before, from: '', event })
  review(turn, constraint, usageOf(turn, constraint), true)
  return { id, units: claimed - confirmed, gone }
}

/** Goes on releasing claims that are not confirmed, and returns them. */
export function settleNext(turn: Turn, asked: Messages['hence:settle']): SettledClaim[] {
  const { constraint: name, before, from } = asked
  const query = { prefix: [name], from: [from], limit: claimsPerStep + 1 }
  const rows = turn.rows('claims').scan(query, encodeKey([turn.key]))
  const gone: SettledClaim[] = []
  for (const { key, value } of rows.slice(0, claimsPerStep)) {
    const { scope, holder, units } = value as ClaimRow
    if (!isSettled(value as ClaimRow, before)) continue
    const identity = key[2] as string
    turn.rows('claims').delete(encodeKey(key), value)
    turn.send('hence:lapse', holder, { identity, scope, holder, constraint: name, key: turn.key })
    const who = { requestId: requestIdOf(identity), principal: principalOf(identity), key: holder, units }
    gone.push({ constraint: name, judged: turn.key, ...who })
  }
  const next = rows[claimsPerStep]
  const constraint = turn.constraint(name)
  const usage = usageOf(turn, constraint)
  if (next !== undefined)
    turn.send('hence:settle', turn.key, { ...asked, from: next.key[2] as string }, { isLater: true })
  else if (usage.settling === before) {
    save(turn, constraint, { ...usage, settling: null })
    if (usage.violation !== null) choose(turn, { violation: usage.violation })
  }
  return gone
}

/** Takes a served claim away that was not confirmed in time; what it had goes to the next in line. */
export function unconfirmed(turn: Turn, { constraint: name, identity }: Messages['hence:unconfirmed']): void {
  const constraint = turn.constraint(name)
  const usage = usageOf(turn, constraint)
  const row = claimOf(turn, usage, name, identity)
  if (row === undefined || row.confirmed) return
  const { scope, holder } = row
  const about = { identity, scope, holder, constraint: name, key: turn.key }
  turn.send('hence:compensate', holder, { ...about, violation: null })
  review(turn, constraint, take(turn, usage, name, identity, row))
}

/** Goes on serving the waiting list. */
export function serveNext(turn: Turn, { constraint: name }: Messages['hence:serve']): void {
  const constraint = turn.constraint(name)
  save(turn, constraint, usageOf(turn, constraint))
}
