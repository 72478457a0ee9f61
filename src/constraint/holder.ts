import type { Claim, Constraint } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { encodeKey, keyBytesMax } from '../state/keys.ts'
import type { ClaimHolder, HeldClaim } from './tables.ts'
import type { Messages, Turn } from './turn.ts'

// The side of the request that holds claims: under its own partition key, the claims it asked for and was
// granted.

/**
 * The claims of a request in the order that all requests use: strict ones first, by constraint and key.
 * Several claims on one key of a constraint become one.
 * @throws HenceError `unknown-definition`, `key-too-long` (change)
 */
export function claimsInOrder(
  identity: string,
  claims: readonly Claim[],
  constraintOf: (name: string) => Constraint,
): HeldClaim[] {
  const merged = new Map<string, HeldClaim>()
  for (const { constraint, key, units, priority } of claims) {
    const { mode, adjustable } = constraintOf(constraint)
    checkJudgedKey(constraint, key, identity)
    const at = encodeKey([constraint, key])
    const before = merged.get(at)
    merged.set(at, {
      constraint,
      key,
      units: before === undefined || !adjustable ? units : before.units + units,
      priority: Math.max(before?.priority ?? priority, priority),
      strict: mode === 'strict',
    })
  }
  const rank = (at: string, { strict }: HeldClaim) => (strict ? '0' : '1') + at
  return [...merged].sort(([a, x], [b, y]) => (rank(a, x) < rank(b, y) ? -1 : 1)).map(([, claim]) => claim)
}

/** Room in the keys of a judge's rows for what is not a name: times, ids, tags. In bytes. */
const otherKeyBytes = 128

/** Refuses the claim at the request, since a judge that cannot store its row could not answer. */
function checkJudgedKey(constraint: string, key: string, identity: string): void {
  const bytes = encodeKey([key, constraint, constraint, identity]).length + otherKeyBytes
  if (bytes <= keyBytesMax) return
  throw new HenceError(
    'key-too-long',
    'change',
    `A claim on "${constraint}" is on a key that is too long: together with the id and the principal of its request, ` +
      `${bytes} bytes of ${keyBytesMax}. Use a shorter key, or a hash of the long one.`,
  )
}

export function holderOf(turn: Turn, scope: string, identity: string): ClaimHolder | undefined {
  return turn.rows('holders').get(encodeKey([turn.key, scope, identity])) as ClaimHolder | undefined
}

/** Stores the claims that a request asks for or holds; removes the row when there are none. */
export function setHolder(
  turn: Turn,
  scope: string,
  identity: string,
  holder: ClaimHolder | undefined,
): void {
  const key = encodeKey([turn.key, scope, identity])
  if (holder === undefined || holder.claims.length === 0) turn.rows('holders').delete(key)
  else turn.rows('holders').put(key, holder)
}

/** Asks the judge for one claim. */
export function ask(turn: Turn, scope: string, identity: string, claim: HeldClaim): void {
  const { constraint, key, units, priority, strict } = claim
  turn.send('hence:claim', key, { constraint, identity, scope, holder: turn.key, units, priority, strict })
}

/** Releases claims at their judges. */
export function giveBack(turn: Turn, identity: string, claims: readonly HeldClaim[]): void {
  for (const { constraint, key } of claims) turn.send('hence:release', key, { constraint, identity })
}

/** Releases the claims that the requests of this key hold on a constraint; returns their number. */
export function releaseHeld(turn: Turn, scope: string, constraint: string, key: string | undefined): number {
  return forHeld(turn, scope, constraint, key, (identity, holder, named) => {
    giveBack(turn, identity, named)
    setHolder(turn, scope, identity, {
      ...holder,
      claims: holder.claims.filter((claim) => !named.includes(claim)),
    })
  })
}

/** Confirms the claims that the requests of this key hold on a constraint; returns their number. */
export function confirmHeld(turn: Turn, scope: string, constraint: string, key: string | undefined): number {
  return forHeld(turn, scope, constraint, key, (identity, _, named) => {
    for (const claim of named) turn.send('hence:confirm', claim.key, { constraint, identity })
  })
}

/** Removes a claim that its judge has released. */
export function lapse(turn: Turn, { identity, scope, constraint, key }: Messages['hence:lapse']): void {
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
): number {
  let count = 0
  const rows = turn.rows('holders').scan({ prefix: [scope] }, encodeKey([turn.key]))
  for (const row of rows) {
    const holder = row.value as ClaimHolder
    if (holder.state !== 'standing') continue
    const named = holder.claims.filter(
      (claim) => claim.constraint === constraint && (key === undefined || claim.key === key),
    )
    if (named.length === 0) continue
    act(row.key[2] as string, holder, named)
    count += named.length
  }
  return count
}
