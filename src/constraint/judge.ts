// This file is longer than 400 lines, because all that changes what is claimed of a key stands here together.
import type { Constraint, SettledClaim } from '../app/index.ts'
import { assert } from '../assert.ts'
import { HenceError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'
import type { TableState } from '../state/table.ts'
import type { ClaimRow, HistoryEntry, Usage, Victim, Violation } from './tables.ts'
import type { Messages, Turn } from './turn.ts'
import { leave, queue, serve } from './waiting-list.ts'

// Judges the claims on a key, in the log order of its partition. Each key has exactly one judge, so verdicts
// agree without locks and without a vote.

/** The limit and the claimed units of a constraint at this key. */
export function usageOf(turn: Turn, { name, limit }: Constraint): Usage {
  const usage = turn.rows('usage').get(encodeKey([turn.key, name])) as Usage | undefined
  return (
    usage ?? {
      limit,
      claimed: 0,
      waived: 0,
      settled: false,
      count: 0,
      waiting: 0,
      waitingBytes: 0,
      violation: null,
    }
  )
}

/** Judges a claim: grants or denies a strict one; records a loose one in any case. Either may wait instead. */
export function claim(turn: Turn, asked: Messages['hence:claim']): void {
  const { constraint: name, identity, scope, holder, strict, wait, instead = [] } = asked
  const constraint = turn.constraint(name)
  const usage = usageOf(turn, constraint)
  const replaced = instead.flatMap((each) => rowOf(turn, name, each) ?? [])
  const units = Math.max(
    0,
    replaced.reduce((rest, row) => rest - row.units, asked.units),
  )
  const fits = usage.waiting === 0 && usage.claimed + units <= limitWithMargin(constraint, usage)
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
            constraint: units === 0 ? null : name,
            confirmed: replaced.some(({ confirmed }) => confirmed),
            exchanging: true,
          }
    turn.rows('claims').put(encodeKey([turn.key, name, identity]), added)
    const next = { ...usage, claimed: usage.claimed + units, count }
    if (strict) save(turn, constraint, next)
    else review(turn, constraint, next)
  }
  if (!strict) return
  const verdict = waiting !== undefined ? 'waits' : granted ? 'granted' : wait ? 'full' : 'denied'
  turn.send('hence:verdict', holder, { ...about, verdict })
}

function newRow(
  turn: Turn,
  { name, victims }: Constraint,
  { count }: Pick<Usage, 'count'>,
  { units, priority, holder, scope }: Pick<ClaimRow, 'units' | 'priority' | 'holder' | 'scope'>,
): ClaimRow {
  return {
    constraint: name,
    units,
    priority,
    at: turn.now,
    confirmed: false,
    holder,
    scope,
    rank: victims === 'lowest-priority' ? priority : 0,
    order: victims === 'oldest' ? count : -count,
  }
}

/**
 * Puts the claim of an accepted request in the place of others. It is as old as the oldest of them, and
 * confirmed if one of them is. If it has given way since it was granted, the request learns of that, and
 * only what it replaces is released.
 */
export function exchange(turn: Turn, asked: Messages['hence:exchange']): void {
  const { constraint: name, identity, instead = [] } = asked
  const constraint = turn.constraint(name)
  let usage = usageOf(turn, constraint)
  const own = take(turn, name, identity)
  let { claimed } = usage
  if (own !== undefined) claimed -= own.units
  let row = own ?? newRow(turn, constraint, usage, asked)
  for (const each of instead) {
    const before = take(turn, name, each)
    if (before === undefined) {
      usage = leave(turn, name, usage, each) ?? usage
      continue
    }
    claimed -= before.units
    const { at, order } = Math.abs(before.order) < Math.abs(row.order) ? before : row
    row = { ...row, at, order, confirmed: row.confirmed || before.confirmed }
  }
  const count = usage.count + (asked.strict ? 0 : 1)
  if (own !== undefined || !asked.strict) {
    const { exchanging: _, ...held } = row
    const { units } = asked
    turn.rows('claims').put(encodeKey([turn.key, name, identity]), { ...held, constraint: name, units })
    claimed += units
  }
  review(turn, constraint, { ...usage, claimed, count })
}

/** Releases a claim, or some of its units, if the request still holds it. */
export function release(
  turn: Turn,
  { constraint: name, identity, units = Number.POSITIVE_INFINITY }: Messages['hence:release'],
): void {
  const constraint = turn.constraint(name)
  const row = take(turn, name, identity)
  if (row === undefined) {
    const left = leave(turn, name, usageOf(turn, constraint), identity, units)
    if (left !== undefined) save(turn, constraint, left)
    return
  }
  const rest = row.units - units
  if (rest > 0) turn.rows('claims').put(encodeKey([turn.key, name, identity]), { ...row, units: rest })
  const usage = usageOf(turn, constraint)
  review(turn, constraint, { ...usage, claimed: usage.claimed - Math.min(row.units, units) })
}

export function confirm(turn: Turn, { constraint, identity }: Messages['hence:confirm']): void {
  const row = rowOf(turn, constraint, identity)
  if (row === undefined) return
  turn.rows('claims').put(encodeKey([turn.key, constraint, identity]), { ...row, confirmed: true })
}

/** @throws HenceError `claim-invalid` (change) */
export function setLimit(turn: Turn, constraint: Constraint, limit: number): void {
  if (!constraint.adjustable) {
    throw new HenceError(
      'claim-invalid',
      'change',
      `The limit of the unique constraint "${constraint.name}" is 1 and cannot be changed.`,
    )
  }
  if (!Number.isSafeInteger(limit) || limit < 0) {
    throw new HenceError(
      'claim-invalid',
      'change',
      `The limit of "${constraint.name}" must be a whole number from 0, not ${limit}.`,
    )
  }
  review(turn, constraint, { ...usageOf(turn, constraint), limit })
}

/** Releases the claims that are not confirmed, and ends the margin. */
export function settle(turn: Turn, constraint: Constraint): SettledClaim[] {
  const { name } = constraint
  const gone: SettledClaim[] = []
  let { claimed } = usageOf(turn, constraint)
  for (const { identity, row } of claimsOf(turn, name)) {
    if (row.confirmed) continue
    const { scope, holder, units } = row
    take(turn, name, identity)
    claimed -= units
    turn.send('hence:lapse', holder, { identity, scope, holder, constraint: name, key: turn.key })
    gone.push({ requestId: requestIdOf(identity), principal: principalOf(identity), key: holder, units })
  }
  review(turn, constraint, { ...usageOf(turn, constraint), claimed, settled: true })
  return gone
}

/** Takes a served claim away that was not confirmed in time; what it had goes to the next in line. */
export function unconfirmed(turn: Turn, { constraint: name, identity }: Messages['hence:unconfirmed']): void {
  const constraint = turn.constraint(name)
  const row = rowOf(turn, name, identity)
  if (row === undefined || row.confirmed) return
  const { scope, holder, units } = row
  take(turn, name, identity)
  const about = { identity, scope, holder, constraint: name, key: turn.key }
  turn.send('hence:compensate', holder, { ...about, violation: null })
  const usage = usageOf(turn, constraint)
  review(turn, constraint, { ...usage, claimed: usage.claimed - units })
}

/** Goes on serving the waiting list. */
export function serveNext(turn: Turn, { constraint: name }: Messages['hence:serve']): void {
  const constraint = turn.constraint(name)
  save(turn, constraint, usageOf(turn, constraint))
}

/** Records the result of a victim's compensation. */
export function compensated(
  turn: Turn,
  { violation: id, identity, how }: Messages['hence:compensated'],
): void {
  const violation = violationOf(turn, id)
  if (violation === undefined) return
  const who = { requestId: requestIdOf(identity), principal: principalOf(identity) }
  const victims = violation.victims.map((victim) =>
    victim.state === 'told' && victim.requestId === who.requestId && victim.principal === who.principal
      ? { ...victim, state: how }
      : victim,
  )
  const constraint = turn.constraint(violation.constraint)
  conclude(turn, constraint, usageOf(turn, constraint), { ...violation, victims })
}

/** Lets the policy decide a violation for which no operator decided in time. */
export function deadline(turn: Turn, { violation: id }: Messages['hence:deadline']): void {
  const violation = violationOf(turn, id)
  if (violation?.state !== 'open') return
  const constraint = turn.constraint(violation.constraint)
  const noted = note(turn, violation, { what: 'deadline-passed', units: violation.excess })
  chooseVictims(turn, constraint, usageOf(turn, constraint), noted, undefined)
}

/** An operator's decision about an open violation. */
export type OperatorDecision =
  | { readonly action: 'compensate' }
  | { readonly action: 'waive' }
  | { readonly action: 'raise-limit'; readonly units?: number }
  | { readonly action: 'choose'; readonly victims: readonly string[] }

/**
 * Carries out an operator's decision.
 * @param decision `choose` names victims by their identities
 * @returns the reason why it was not carried out; undefined when it was
 */
export function resolve(
  turn: Turn,
  id: string,
  decision: OperatorDecision,
  reason: string,
): 'violation-unknown' | 'violation-not-open' | 'victim-unknown' | 'limit-fixed' | undefined {
  const violation = violationOf(turn, id)
  if (violation === undefined) return 'violation-unknown'
  if (violation.state !== 'open') return 'violation-not-open'
  const constraint = turn.constraint(violation.constraint)
  if (decision.action === 'raise-limit' && !constraint.adjustable) return 'limit-fixed'
  const usage = usageOf(turn, constraint)
  const { excess } = violation
  const units = decision.action === 'raise-limit' ? (decision.units ?? excess) : excess
  const by = { requestId: requestIdOf(turn.identity), principal: principalOf(turn.identity) }
  const noted = note(turn, violation, { what: decision.action, units, by, reason })
  switch (decision.action) {
    case 'compensate':
      chooseVictims(turn, constraint, usage, noted, undefined)
      return undefined
    case 'choose': {
      const known = decision.victims.every((identity) => rowOf(turn, constraint.name, identity))
      if (!known || decision.victims.length === 0) return 'victim-unknown'
      chooseVictims(turn, constraint, usage, noted, decision.victims)
      return undefined
    }
    case 'waive':
      conclude(turn, constraint, { ...usage, waived: usage.waived + units }, noted)
      return undefined
    case 'raise-limit':
      conclude(turn, constraint, { ...usage, limit: usage.limit + units }, noted)
      return undefined
  }
}

/** Deletes resolved violations that were detected before a time, at most `limit` of them. */
export function forgetResolved(violations: TableState, before: number, limit: number): void {
  const old = violations.scan({ index: 'byState', prefix: ['resolved'], to: [before], limit })
  for (const { key } of old) violations.delete(encodeKey(key))
}

/** Saves the usage, and opens, updates or ends the violation if claims exceed the limit. */
function review(turn: Turn, constraint: Constraint, usage: Usage): void {
  const excess = excessOf(constraint, usage)
  const open = usage.violation === null ? undefined : violationOf(turn, usage.violation)
  if (open !== undefined) {
    const grew = excess > open.excess ? noteGrowth(turn, open, excess) : open
    if (constraint.review === 'auto' && excess > 0) chooseVictims(turn, constraint, usage, grew, undefined)
    else conclude(turn, constraint, usage, grew)
    return
  }
  if (excess <= 0) {
    save(turn, constraint, usage)
    return
  }
  const id = turn.id(`violation ${constraint.name} ${usage.count} ${usage.claimed} ${usage.limit}`)
  const isReviewed = constraint.review === 'human'
  const violation: Violation = {
    id,
    constraint: constraint.name,
    scope: constraint.scope,
    state: 'open',
    at: turn.now,
    excess,
    deadline: isReviewed ? turn.now + constraint.deadlineMs : null,
    victims: [],
    history: [{ at: turn.now, what: 'noticed', units: excess }],
  }
  if (!isReviewed) {
    chooseVictims(turn, constraint, usage, violation, undefined)
    return
  }
  put(turn, violation)
  save(turn, constraint, { ...usage, violation: id })
  turn.schedule('hence:deadline', id, turn.now + constraint.deadlineMs, { violation: id })
}

/** Takes claims away until the rest fits the limit, and sends `hence:compensate` to their holders. */
function chooseVictims(
  turn: Turn,
  constraint: Constraint,
  usage: Usage,
  violation: Violation,
  chosen: readonly string[] | undefined,
): void {
  const { name } = constraint
  let { claimed } = usage
  let next = usage
  const victims: Victim[] = [...violation.victims]
  const give = (identity: string) => {
    const row = take(turn, name, identity)
    if (row === undefined) return
    const { units, holder, scope } = row
    claimed -= units
    const told = { requestId: requestIdOf(identity), principal: principalOf(identity), key: holder, units }
    const waits =
      constraint.waitingList?.victims && !row.exchanging
        ? queue(turn, constraint, next, identity, Math.abs(row.order), row)
        : undefined
    next = waits ?? next
    victims.push({ ...told, state: waits === undefined ? 'told' : 'queued' })
    turn.send(waits === undefined ? 'hence:compensate' : 'hence:queued', holder, {
      identity,
      scope,
      holder,
      constraint: name,
      key: turn.key,
      violation: violation.id,
    })
  }
  if (chosen !== undefined) {
    for (const identity of chosen) give(identity)
  } else {
    // A claim has at least one unit, so there are at most as many victims as excess units.
    const limit = Math.max(0, excessOf(constraint, usage))
    const rows = turn.rows('claims').scan({ index: 'victims', prefix: [name], limit }, encodeKey([turn.key]))
    for (const { key } of rows) {
      if (excessOf(constraint, { ...usage, claimed }) <= 0) break
      give(key[2] as string)
    }
  }
  const units = usage.claimed - claimed
  const noted = note(turn, { ...violation, victims }, { what: 'victims-chosen', units })
  conclude(turn, constraint, { ...next, claimed }, noted)
}

/** Computes a violation's state, and saves it with the usage. */
function conclude(turn: Turn, constraint: Constraint, usage: Usage, violation: Violation): void {
  // Once its victims are notified, a violation no longer counts for the usage: a new excess is a new
  // violation.
  const isCurrent = violation.state === 'open'
  const excess = isCurrent ? Math.max(0, excessOf(constraint, usage)) : 0
  const isWaiting = violation.victims.some(({ state }) => state === 'told')
  const state = excess > 0 ? 'open' : isWaiting ? 'compensating' : 'resolved'
  let next: Violation = { ...violation, excess, state }
  if (state === 'resolved' && violation.state !== 'resolved') {
    const byItself = violation.victims.length === 0 && violation.history.at(-1)!.by === undefined
    next = note(turn, next, { what: byItself ? 'cleared' : 'resolved', units: 0 })
  }
  put(turn, next)
  if (isCurrent) save(turn, constraint, { ...usage, violation: state === 'open' ? violation.id : null })
}

function limitWithMargin({ overbook }: Constraint, { limit, settled }: Usage): number {
  if (settled) return limit
  return limit + (typeof overbook === 'number' ? overbook : Math.floor((limit * overbook.percent) / 100))
}

function excessOf(constraint: Constraint, usage: Usage): number {
  return usage.claimed - limitWithMargin(constraint, usage) - usage.waived
}

/** Saves the usage; free units go to the claims that wait. */
function save(turn: Turn, constraint: Constraint, saved: Usage): void {
  const { name, limit } = constraint
  const room = limitWithMargin(constraint, saved) - saved.claimed
  const usage = serve(turn, constraint, saved, room, (identity, { number, ...row }) => {
    const granted = newRow(turn, constraint, { count: number }, row)
    turn.rows('claims').put(encodeKey([turn.key, name, identity]), granted)
  })
  const rows = turn.rows('usage')
  const key = encodeKey([turn.key, name])
  // A waiver ends with the claims that it covers.
  const over = usage.claimed - limitWithMargin(constraint, usage)
  const waived = Math.min(usage.waived, Math.max(0, over))
  assert(usage.claimed >= 0, 'a key never has less than 0 units claimed', usage.claimed)
  assert(usage.waived >= 0, 'a waived excess is never negative', usage.waived)
  assert(usage.count >= 0, 'claims are counted up', usage.count)
  const isAsNew = usage.claimed === 0 && usage.limit === limit && !usage.settled && usage.violation === null
  if (isAsNew && usage.waiting === 0) rows.delete(key)
  else rows.put(key, { ...usage, waived })
}

function rowOf(turn: Turn, constraint: string, identity: string): ClaimRow | undefined {
  return turn.rows('claims').get(encodeKey([turn.key, constraint, identity])) as ClaimRow | undefined
}

function take(turn: Turn, constraint: string, identity: string): ClaimRow | undefined {
  const row = rowOf(turn, constraint, identity)
  if (row !== undefined) turn.rows('claims').delete(encodeKey([turn.key, constraint, identity]))
  return row
}

function claimsOf(turn: Turn, constraint: string): { identity: string; row: ClaimRow }[] {
  const rows = turn.rows('claims').scan({ prefix: [constraint] }, encodeKey([turn.key]))
  return rows.map(({ key, value }) => ({ identity: key[2] as string, row: value as ClaimRow }))
}

function violationOf(turn: Turn, id: string): Violation | undefined {
  return turn.rows('violations').get(encodeKey([turn.key, id])) as Violation | undefined
}

function put(turn: Turn, violation: Violation): void {
  turn.rows('violations').put(encodeKey([turn.key, violation.id]), violation)
}

/**
 * Records growth, replacing a `grew` entry at the end: the history of a violation that waits for an operator
 * must not grow with every claim. The log has each claim.
 */
function noteGrowth(turn: Turn, violation: Violation, units: number): Violation {
  const { history } = violation
  const before = history.at(-1)!.what === 'grew' ? history.slice(0, -1) : history
  return note(turn, { ...violation, history: before }, { what: 'grew', units })
}

function note(turn: Turn, violation: Violation, entry: Omit<HistoryEntry, 'at'>): Violation {
  return { ...violation, history: [...violation.history, { at: turn.now, ...entry }] }
}
