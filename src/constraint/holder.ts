import type { Claim } from '../app/index.ts'
import { assert } from '../assert.ts'
import { changeError } from '../failure.ts'
import { compareKeys, encodeKey, keyBytesMax } from '../state/keys.ts'
import { type ClaimHolder, type HeldClaim, type Inputs, inputsPerRow } from './tables.ts'
import type { Turn } from './turn.ts'

// The side of the request that holds claims: under its own key, those it asked for and was granted.

/**
 * The claims of a request in the order that all requests use: strict ones first, by constraint and key.
 * Several claims on one key of a constraint become one.
 */
export function claimsInOrder(turn: Turn, scope: string, claims: readonly Claim[]): HeldClaim[] {
  const sorted = claims.map((claim) => {
    const { constraint, key, exchange } = claim
    const { mode, adjustable } = turn.constraint(constraint)
    checkJudgedKey(constraint, key, turn.identity)
    const instead = exchange && holdersOf(turn, scope, constraint, key)
    return { at: encodeKey([constraint, key]), claim, strict: mode === 'strict', adjustable, instead }
  })
  sorted.sort((a, b) => compareKeys(a.at, b.at))
  const lists: [strict: HeldClaim[], loose: HeldClaim[]] = [[], []]
  for (const [i, { at, claim, strict, adjustable, instead: own }] of sorted.entries()) {
    const { constraint, key, units, priority, wait } = claim
    const list = lists[strict ? 0 : 1]
    const before = at === sorted[i - 1]?.at ? list.pop() : undefined
    const instead = before?.instead ?? own
    list.push({
      constraint,
      key,
      units: before === undefined || !adjustable ? units : before.units + units,
      priority: Math.max(before?.priority ?? priority, priority),
      strict,
      ...(instead && { instead }),
      ...((wait || before?.wait) && instead === undefined && { wait: true as const }),
    })
  }
  return lists.flat()
}

/** How many requests' claims one claim may replace, so that its message has a bound. */
const exchangedMax = 100

/** The requests whose claims an exchange replaces; undefined if there are none. */
function holdersOf(turn: Turn, scope: string, constraint: string, key: string): string[] | undefined {
  const found: string[] = []
  forHeld(turn, scope, constraint, key, (identity) => found.push(identity))
  if (found.length <= exchangedMax) return found.length === 0 ? undefined : found
  throw changeError(
    'claim-invalid',
    `A claim on "${constraint}" is to be exchanged for those of ${found.length} requests; ${exchangedMax} is ` +
      'the most. Give what is held together a partition key of its own.',
  )
}

/** Room in the keys of a judge's rows for what is not a name: times, ids, tags. In bytes. */
const otherKeyBytes = 128

/** Refuses the claim at the request, since a judge that cannot store its row could not answer. */
function checkJudgedKey(constraint: string, key: string, identity: string): void {
  // A character has 3 bytes at most, and few have so many.
  if (3 * (key.length + 2 * constraint.length + identity.length) + 4 + otherKeyBytes <= keyBytesMax) return
  const bytes = encodeKey([key, constraint, constraint, identity]).length + otherKeyBytes
  if (bytes <= keyBytesMax) return
  throw changeError(
    'key-too-long',
    `A claim on "${constraint}" is on a key that is too long: together with the id and the principal of its request, ` +
      `${bytes} bytes of ${keyBytesMax}. Use a shorter key, or a hash of the long one.`,
  )
}

export function holderOf(turn: Turn, scope: string, identity: string): ClaimHolder | undefined {
  return turn.rows('holders').get(encodeKey([turn.key, scope, identity])) as ClaimHolder | undefined
}

type RequestPosition = Pick<ClaimHolder, 'rootPartition' | 'rootOffset'>

function inputsKey({ rootPartition, rootOffset }: RequestPosition): string {
  return encodeKey([`${rootPartition}`, Math.floor(rootOffset / inputsPerRow)])
}

/** The schema's output for a request that holds claims or asks for them, as JSON text. */
export function inputOf(turn: Turn, root: RequestPosition): string {
  const input = inputsOf(turn, inputsKey(root))[root.rootOffset % inputsPerRow]
  assert(typeof input === 'string', 'a request that holds claims keeps its input', root.rootOffset)
  return input!
}

function inputsOf(turn: Turn, key: string): Inputs {
  return (turn.rows('inputs').get(key) as Inputs | undefined) ?? []
}

export function keepInput(turn: Turn, root: RequestPosition, input: string): void {
  const key = inputsKey(root)
  const inputs = inputsOf(turn, key).slice()
  const at = root.rootOffset % inputsPerRow
  while (inputs.length < at) inputs.push(null)
  inputs[at] = input
  turn.rows('inputs').put(key, inputs)
}

function dropInput(turn: Turn, root: RequestPosition): void {
  const key = inputsKey(root)
  const inputs = inputsOf(turn, key).slice()
  inputs[root.rootOffset % inputsPerRow] = null
  // So that the row does not depend on the order in which the requests of several keys end.
  while (inputs.at(-1) === null) inputs.pop()
  if (inputs.length === 0) turn.rows('inputs').delete(key)
  else turn.rows('inputs').put(key, inputs)
}

/** Stores the claims that a request asks for or holds; removes the row, and its input, when there are none. */
export function setHolder(
  turn: Turn,
  scope: string,
  identity: string,
  holder: ClaimHolder | undefined,
): void {
  const key = encodeKey([turn.key, scope, identity])
  if (holder !== undefined && holder.claims.length > 0) {
    turn.rows('holders').put(key, holder)
    return
  }
  const before = turn.rows('holders').get(key) as ClaimHolder | undefined
  if (before === undefined) return
  dropInput(turn, before)
  turn.rows('holders').delete(key)
}

export function ask(turn: Turn, scope: string, identity: string, claim: HeldClaim): void {
  const { key, ...asked } = claim
  turn.send('hence:claim', key, { ...asked, identity, scope, holder: turn.key })
}

/** The request is accepted and holds its claims: asks for the loose ones, and replaces those exchanged. */
export function hold(turn: Turn, scope: string, identity: string, holder: Omit<ClaimHolder, 'state'>): void {
  const claims: HeldClaim[] = []
  for (const { instead, wait, ...claim } of holder.claims) {
    claims.push(claim)
    if (instead !== undefined) {
      const { key, ...asked } = claim
      for (const other of instead) dropClaim(turn, scope, other, claim)
      turn.send('hence:exchange', key, { ...asked, identity, scope, holder: turn.key, instead })
    } else if (!claim.strict) ask(turn, scope, identity, wait ? { ...claim, wait } : claim)
    else if (claim.waiting) {
      const { constraint, key } = claim
      const about = { identity, scope, holder: turn.key, constraint, key }
      turn.send('hence:queued', turn.key, { ...about, violation: null })
    }
  }
  setHolder(turn, scope, identity, { ...holder, state: 'standing', claims })
}

export function giveBack(turn: Turn, identity: string, claims: readonly HeldClaim[]): void {
  for (const { constraint, key } of claims) turn.send('hence:release', key, { constraint, identity })
}

/**
 * Releases the claims that the requests of this key hold on a constraint, those of the latest request first,
 * and those that wait last, since they have no units yet.
 * @param most how many units at most
 * @returns the number of claims released, wholly or in part
 */
export function releaseHeld(
  turn: Turn,
  scope: string,
  constraint: string,
  key: string | undefined,
  most: number | undefined,
): number {
  if (most !== undefined && !(Number.isSafeInteger(most) && most > 0)) {
    throw changeError(
      'claim-invalid',
      `The units of "${constraint}" to release must be a whole number, at least 1, not ${most}.`,
    )
  }
  const held: { identity: string; holder: ClaimHolder; claim: HeldClaim }[] = []
  forHeld(turn, scope, constraint, key, (identity, holder, named) => {
    for (const claim of named) held.push({ identity, holder, claim })
  })
  const line = ({ waiting }: HeldClaim) => (waiting ? 1 : 0)
  // Offsets count within one millisecond only: that of a request that moved here is of another partition.
  const later = (a: ClaimHolder, b: ClaimHolder) => b.at - a.at || b.rootOffset - a.rootOffset
  if (most !== undefined) held.sort((a, b) => line(a.claim) - line(b.claim) || later(a.holder, b.holder))
  const changed = new Map<string, ClaimHolder>()
  const released = new Map<HeldClaim, number>()
  let left = most ?? Number.POSITIVE_INFINITY
  for (const { identity, holder, claim } of held) {
    if (left === 0) break
    const units = Math.min(left, claim.units)
    left -= units
    released.set(claim, units)
    changed.set(identity, holder)
    if (units === claim.units) giveBack(turn, identity, [claim])
    else turn.send('hence:release', claim.key, { constraint, identity, units })
  }
  for (const [identity, holder] of changed) {
    const claims = holder.claims
      .map((claim) => ({ ...claim, units: claim.units - (released.get(claim) ?? 0) }))
      .filter(({ units }) => units > 0)
    setHolder(turn, scope, identity, { ...holder, claims })
  }
  return released.size
}

/** Confirms the claims that the requests of this key hold on a constraint; returns their number. */
export function confirmHeld(turn: Turn, scope: string, constraint: string, key: string | undefined): number {
  let count = 0
  forHeld(turn, scope, constraint, key, (identity, _, named) => {
    for (const claim of named) {
      if (claim.waiting) continue
      turn.send('hence:confirm', claim.key, { constraint, identity })
      count++
    }
  })
  return count
}

/** Whether a request of this key, decided or not, waits for a claim on a constraint. */
export function isWaiting(turn: Turn, scope: string, constraint: string, key: string | undefined): boolean {
  const rows = turn.rows('holders').scan({ prefix: [scope] }, encodeKey([turn.key]))
  return rows.some(({ value }) =>
    (value as ClaimHolder).claims.some(
      (claim) => claim.waiting && claim.constraint === constraint && (key === undefined || claim.key === key),
    ),
  )
}

/** Removes a claim that its judge has released. */
export function dropClaim(
  turn: Turn,
  scope: string,
  identity: string,
  { constraint, key }: Pick<HeldClaim, 'constraint' | 'key'>,
): void {
  const holder = holderOf(turn, scope, identity)
  if (holder === undefined) return
  setHolder(turn, scope, identity, { ...holder, claims: without(holder.claims, constraint, key) })
}

export function without(claims: readonly HeldClaim[], constraint: string, key: string): HeldClaim[] {
  return claims.filter((claim) => claim.constraint !== constraint || claim.key !== key)
}

function forHeld(
  turn: Turn,
  scope: string,
  constraint: string,
  key: string | undefined,
  act: (identity: string, holder: ClaimHolder, named: readonly HeldClaim[]) => void,
): void {
  const rows = turn.rows('holders').scan({ prefix: [scope] }, encodeKey([turn.key]))
  for (const row of rows) {
    const holder = row.value as ClaimHolder
    if (holder.state !== 'standing') continue
    const named = holder.claims.filter(
      (claim) => claim.constraint === constraint && (key === undefined || claim.key === key),
    )
    if (named.length > 0) act(row.key[2] as string, holder, named)
  }
}
