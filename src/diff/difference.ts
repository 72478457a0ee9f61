import type { Outcome } from '../app/index.ts'
import type { KeyPart } from '../app/table.ts'
import type { Usage, Violation } from '../constraint/tables.ts'
import type { EffectRow } from '../effect/outbox.ts'
import { canonicalJson } from '../state/digest.ts'

/** One thing in which two derivations of the same messages differ. */
export type Difference =
  | RowDifference
  | OutcomeDifference
  | EffectDifference
  | ClaimDifference
  | UsageDifference
  | ViolationDifference
  | TimerDifference

/** The value on both sides; a side that has none is left out. */
export interface BeforeAfter<T> {
  readonly before?: T
  readonly after?: T
}

/** A row of a table of the app. */
export interface RowDifference extends BeforeAfter<unknown> {
  readonly kind: 'row'
  readonly table: string
  readonly scope: string
  /** The partition key first. */
  readonly key: readonly KeyPart[]
}

/** The outcome of a request; left out on a side where the request still waits for its claims. */
export interface OutcomeDifference extends BeforeAfter<Outcome> {
  readonly kind: 'outcome'
  readonly requestId: string
  readonly principal: string
  /** The position of the request in the log, according to the derivation before. */
  readonly partition: number
  readonly offset: number
}

/** An effect: something asked of the outside world. */
export interface EffectDifference extends BeforeAfter<ComparedEffect> {
  readonly kind: 'effect'
  readonly id: string
  /**
   * Delivery state of the effect before; left out if there is none. It changes with time and not with the
   * code, so it is not part of the line.
   */
  readonly delivery?: EffectRow['state']
}

export interface ComparedEffect {
  readonly type: string
  readonly input: unknown
  /** Scope and partition key of the derivation that emitted it. */
  readonly scope: string
  readonly key: string
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
}

/** A claim that a request holds. */
interface ClaimDifference extends BeforeAfter<ComparedClaim> {
  readonly kind: 'claim'
  readonly constraint: string
  /** The key that it is judged under. */
  readonly key: string
  readonly requestId: string
  readonly principal: string
}

export interface ComparedClaim {
  readonly units: number
  readonly priority: number
  readonly confirmed: boolean
  /** Partition key and scope of the request that holds it. */
  readonly holder: string
  readonly scope: string
  /** Its place in line, if it waits. */
  readonly waiting?: number
}

/**
 * How much of a key is claimed, and its limit. A key without a row for it counts as the limit that the app
 * declares, with nothing claimed; so a side is left out only if its app has no such constraint.
 */
export interface UsageDifference
  extends BeforeAfter<{ readonly limit: number } & Pick<Usage, 'claimed' | 'waived' | 'settled'>> {
  readonly kind: 'usage'
  readonly constraint: string
  readonly key: string
}

/** A violation: more was claimed than the limit allows. */
interface ViolationDifference extends BeforeAfter<Violation> {
  readonly kind: 'violation'
  readonly constraint: string
  readonly key: string
  readonly id: string
}

/** A timer of the app that has not fired yet. */
interface TimerDifference
  extends BeforeAfter<{
    /** Log time, in milliseconds since 1970. */
    readonly at: number
    readonly data: unknown
  }> {
  readonly kind: 'timer'
  readonly event: string
  readonly scope: string
  readonly key: string
  /** The name that the app gave it; '' if none. */
  readonly name: string
}

/** One line of canonical JSON (RFC 8785) without the line break, so that equal differences are equal bytes. */
export function lineOf(difference: Difference): string {
  if (difference.kind !== 'effect') return canonicalJson(difference)
  const { delivery: _, ...lasting } = difference
  return canonicalJson(lasting)
}
