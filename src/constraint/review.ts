import type { Constraint } from '../app/index.ts'
import { assert } from '../assert.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'
import { type Pieces, pieceRows } from '../state/pieces.ts'
import type { TableState } from '../state/table.ts'
import {
  type ClaimRow,
  excessOf,
  type HistoryEntry,
  type Usage,
  type Victim,
  type Violation,
  victimCount,
} from './tables.ts'
import type { Messages, Turn } from './turn.ts'
import { claimOf, order, save, take, usageOf } from './usage.ts'
import { queue } from './waiting-list.ts'

// Finds claims that exceed the limit, and makes some of them give way. A judge does so under its own key.

/**
 * How many claims one step takes away. If more must go, the judge sends its key a message through the log,
 * so that other records come between, and the same ones in every replay.
 */
export const claimsPerStep = 100

/** An operator's decision about an open violation. */
export type OperatorDecision =
  | { readonly action: 'compensate' }
  | { readonly action: 'waive' }
  | { readonly action: 'raise-limit'; readonly units?: number }
  | { readonly action: 'choose'; readonly victims: readonly string[] }

/** Records the result of a victim's compensation. */
export function compensated(
  turn: Turn,
  { violation: id, victim: n, how }: Messages['hence:compensated'],
): void {
  const violation = violationOf(turn, id)
  const key = encodeKey([turn.key, id, n])
  const victim = turn.rows('victims').get(key) as Victim | undefined
  if (violation === undefined || victim?.state !== 'told') return
  turn.rows('victims').put(key, { ...victim, state: how })
  const { counts, constraint: name } = violation
  const next = { ...violation, counts: { ...counts, told: counts.told - 1, [how]: counts[how] + 1 } }
  const constraint = turn.constraint(name)
  if (isCurrent(violation)) conclude(turn, constraint, usageOf(turn, constraint), next)
  else put(turn, next, 0)
}

/** Lets the policy decide a violation for which no operator decided in time. */
export function deadline(turn: Turn, { violation: id }: Messages['hence:deadline']): void {
  const violation = violationOf(turn, id)
  if (violation?.state !== 'open') return
  const noted = note(turn, violation, { what: 'deadline-passed', units: violation.excess })
  decide(turn, turn.constraint(violation.constraint), noted)
}

/** Goes on choosing the victims of a violation that was decided. */
export function choose(turn: Turn, { violation: id }: Messages['hence:choose']): void {
  const violation = violationOf(turn, id)
  if (violation === undefined || violation.choosing === 0) return
  chooseVictims(turn, turn.constraint(violation.constraint), violation)
}

/** Reviews a key whose constraint is declared otherwise from here on. */
export function reviewDeclared(turn: Turn, { constraint: name }: Messages['hence:declared']): void {
  const constraint = turn.constraint(name)
  review(turn, constraint, usageOf(turn, constraint))
}

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
      decide(turn, constraint, noted)
      return undefined
    case 'choose': {
      const known = decision.victims.every((identity) => claimOf(turn, usage, constraint.name, identity))
      if (!known || decision.victims.length === 0) return 'victim-unknown'
      conclude(turn, constraint, ...give(turn, constraint, noted, decision.victims))
      return undefined
    }
    case 'waive':
      conclude(turn, constraint, { ...usage, waived: usage.waived + units }, noted)
      return undefined
    case 'raise-limit':
      conclude(turn, constraint, { ...usage, adjusted: usage.adjusted + units }, noted)
      return undefined
  }
}

/** Deletes resolved violations that were detected before a time; with their victims at most `limit` rows. */
export function* forgetResolved(
  violations: TableState,
  victims: TableState,
  before: number,
  limit: number,
): Pieces {
  const old = violations.scan({ index: 'byState', prefix: ['resolved'], to: [before], limit })
  let left = limit
  for (const { key } of old) {
    for (;;) {
      const most = Math.min(left, pieceRows)
      const rows = victims.scan({ prefix: [key[1]!], limit: most }, encodeKey([key[0]!]))
      for (const row of rows) victims.delete(encodeKey(row.key), row.value)
      left -= rows.length
      yield
      if (left <= 0) return
      if (rows.length < most) break
    }
    violations.delete(encodeKey(key))
    left--
  }
}

/**
 * Saves the usage, and opens, updates or ends the violation if claims exceed the limit.
 * @param isOfApp whether a derivation of the app goes on: then the policy decides at its end
 */
export function review(turn: Turn, constraint: Constraint, usage: Usage, isOfApp = false): void {
  const excess = excessOf(constraint, usage)
  const open = usage.violation === null ? undefined : violationOf(turn, usage.violation)
  if (open === undefined && excess === 0) {
    save(turn, constraint, usage)
    return
  }
  const violation = open ?? opened(turn, constraint, excess)
  conclude(
    turn,
    constraint,
    usage,
    excess > violation.excess ? noteGrowth(turn, violation, excess) : violation,
  )
  if (constraint.review === 'human') return
  if (isOfApp) turn.undecided.add(violation.id)
  else decideOpen(turn, violation.id)
}

function opened(turn: Turn, constraint: Constraint, excess: number): Violation {
  const { name, scope } = constraint
  const id = turn.id(`violation ${name}`)
  const deadline = constraint.review === 'human' ? turn.now + constraint.deadlineMs : null
  if (deadline !== null) turn.schedule('hence:deadline', id, deadline, { violation: id })
  return {
    id,
    constraint: name,
    scope,
    state: 'open',
    at: turn.now,
    excess,
    deadline,
    choosing: 0,
    counts: { told: 0, compensated: 0, released: 0, failed: 0, queued: 0 },
    history: [{ at: turn.now, what: 'noticed', units: excess }],
  }
}

/** The policy chooses victims of a violation, if it is open. */
export function decideOpen(turn: Turn, id: string): void {
  const violation = violationOf(turn, id)
  if (violation?.state === 'open') decide(turn, turn.constraint(violation.constraint), violation)
}

/** The policy chooses victims for the excess that there is now. */
function decide(turn: Turn, constraint: Constraint, violation: Violation): void {
  chooseVictims(turn, constraint, { ...violation, choosing: violation.excess })
}

/** Takes claims away, in the order of the policy, until the rest fits the limit or the step is full. */
function chooseVictims(turn: Turn, constraint: Constraint, violation: Violation): void {
  const { name } = constraint
  const { choosing } = violation
  if (usageOf(turn, constraint).settling !== null) {
    // Claims that `settle` is about to release come first, and are no victims.
    put(turn, violation, choosing)
    return
  }
  order(turn, constraint)
  // A claim has at least one unit, so there are at most as many victims as units.
  const limit = Math.min(claimsPerStep, choosing)
  const rows = turn.rows('claims').scan({ index: 'victims', prefix: [name], limit }, encodeKey([turn.key]))
  let units = 0
  const victims: string[] = []
  for (const { key, value } of rows) {
    if (units >= choosing) break
    victims.push(key[2] as string)
    units += (value as ClaimRow).units
  }
  assert(victims.length > 0, 'what exceeds a limit is claimed by somebody', choosing)
  const left = Math.max(0, choosing - units)
  conclude(turn, constraint, ...give(turn, constraint, violation, victims), left)
  if (left > 0) turn.send('hence:choose', turn.key, { violation: violation.id }, { isLater: true })
}

/** Takes claims away, and sends `hence:compensate` to their holders. */
function give(
  turn: Turn,
  constraint: Constraint,
  violation: Violation,
  identities: readonly string[],
): [usage: Usage, violation: Violation] {
  const { name } = constraint
  const { id, counts } = violation
  const before = usageOf(turn, constraint)
  let usage = before
  let n = victimCount(counts)
  let { told, queued } = counts
  for (const identity of identities) {
    const row = claimOf(turn, usage, name, identity)
    // An operator may name one twice.
    if (row === undefined) continue
    usage = take(turn, usage, name, identity, row)
    const { units, holder, scope } = row
    const who = { requestId: requestIdOf(identity), principal: principalOf(identity), key: holder, units }
    const waits =
      constraint.waitingList?.victims && !row.exchanging
        ? queue(turn, constraint, usage, identity, Math.abs(row.order), row)
        : undefined
    usage = waits ?? usage
    const state = waits === undefined ? 'told' : 'queued'
    turn.rows('victims').put(encodeKey([turn.key, id, n]), { ...who, state } satisfies Victim)
    const lost = { identity, scope, holder, constraint: name, key: turn.key, violation: id, victim: n++ }
    turn.send(waits === undefined ? 'hence:compensate' : 'hence:queued', holder, lost, { of: id })
    if (waits === undefined) told++
    else queued++
  }
  const more = { ...violation, counts: { ...counts, told, queued } }
  return [usage, noteMore(turn, more, 'victims-chosen', before.claimed - usage.claimed)]
}

/** Whether a violation counts for the usage: until its victims are chosen. After that an excess is a new one. */
const isCurrent = ({ state, choosing }: Violation): boolean => state === 'open' || choosing > 0

/** Computes and saves the state of a current violation; `left` units still need victims, if decided. */
function conclude(
  turn: Turn,
  constraint: Constraint,
  usage: Usage,
  violation: Violation,
  left: number = violation.choosing,
): void {
  const excess = excessOf(constraint, usage)
  const choosing = Math.min(left, excess)
  const isDone = violation.choosing > 0 && choosing === 0
  const isOpen = excess > 0 && !isDone
  put(turn, { ...violation, choosing }, isDone ? 0 : excess)
  const next = { ...usage, violation: isOpen ? violation.id : null }
  if (isOpen || excess === 0) save(turn, constraint, next)
  else review(turn, constraint, next)
}

function violationOf(turn: Turn, id: string): Violation | undefined {
  const row = turn.rows('violations').get(encodeKey([turn.key, id])) as Violation | undefined
  return row?.state === 'resolved' && row.at < turn.forgottenBefore ? undefined : row
}

/** Saves a violation, in the state that follows from its victims and the excess now. */
function put(turn: Turn, violation: Violation, excess: number): void {
  const { counts, choosing, history, id } = violation
  const isWaiting = choosing > 0 || counts.told > 0
  const state = excess > 0 && choosing === 0 ? 'open' : isWaiting ? 'compensating' : 'resolved'
  let next: Violation = { ...violation, excess, state }
  if (state === 'resolved' && violation.state !== 'resolved') {
    const isCleared = victimCount(counts) === 0 && history.at(-1)!.by === undefined
    next = note(turn, next, { what: isCleared ? 'cleared' : 'resolved', units: 0 })
  }
  turn.rows('violations').put(encodeKey([turn.key, id]), next)
}

/** Records growth in one entry: the history of a violation must not grow with every claim. */
function noteGrowth(turn: Turn, violation: Violation, units: number): Violation {
  return note(turn, without(violation, 'grew'), { what: 'grew', units })
}

/** Records units, added to those of the entry at the end if it is of the same kind. */
function noteMore(turn: Turn, violation: Violation, what: 'victims-chosen', units: number): Violation {
  const last = violation.history.at(-1)!
  const before = last.what === what ? last.units : 0
  return note(turn, without(violation, what), { what, units: before + units })
}

function without(violation: Violation, what: HistoryEntry['what']): Violation {
  const { history } = violation
  return history.at(-1)!.what === what ? { ...violation, history: history.slice(0, -1) } : violation
}

function note(turn: Turn, violation: Violation, entry: Omit<HistoryEntry, 'at'>): Violation {
  return { ...violation, history: [...violation.history, { at: turn.now, ...entry }] }
}
