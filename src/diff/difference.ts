import type { Outcome } from '../app/index.ts'
import type { KeyPart } from '../app/table.ts'
import type { Standing, Violation } from '../constraint/tables.ts'
import type { EffectRow } from '../effect/outbox.ts'
import { canonicalJson } from '../state/digest.ts'

/** One thing that two derivations of the same messages have made differently. */
export type Difference =
  | RowDifference
  | OutcomeDifference
  | EffectDifference
  | ClaimDifference
  | StandingDifference
  | ViolationDifference
  | TimerDifference

/** What the one has and what the other has; left out where there is none. */
export interface Sides<T> {
  readonly before?: T
  readonly after?: T
}

/** A row of a table of the app. */
export interface RowDifference extends Sides<unknown> {
  readonly kind: 'row'
  readonly table: string
  readonly scope: string
  /** The partition key first. */
  readonly key: readonly KeyPart[]
}

/** What a request came to; left out on the side where it still waits for its claims. */
export interface OutcomeDifference extends Sides<Outcome> {
  readonly kind: 'outcome'
  readonly requestId: string
  readonly principal: string
  /** Where the request stands in the log, by what was derived before. */
  readonly partition: number
  readonly offset: number
}

/** Something that is asked of the outside world. */
export interface EffectDifference extends Sides<AskedEffect> {
  readonly kind: 'effect'
  readonly id: string
  /**
   * How far the one of before has come by now; left out where there is none. It changes with time and not with code, so it
   * is no part of the line.
   */
  readonly delivery?: EffectRow['state']
}

export interface AskedEffect {
  readonly type: string
  readonly input: unknown
  /** Where it was asked for. */
  readonly scope: string
  readonly key: string
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
}

/** A claim that a request holds. */
export interface ClaimDifference extends Sides<HeldUnits> {
  readonly kind: 'claim'
  readonly constraint: string
  /** The key that it is judged under. */
  readonly key: string
  readonly requestId: string
  readonly principal: string
}

export interface HeldUnits {
  readonly units: number
  readonly priority: number
  readonly confirmed: boolean
  /** The key of the request that holds it, and its scope. */
  readonly holder: string
  readonly scope: string
}

/**
 * How much of a key is claimed, and its limit. Where nothing is kept of it, that is the limit that the app declares, with
 * nothing claimed; so one is left out only where the app has no such constraint.
 */
export interface StandingDifference
  extends Sides<Pick<Standing, 'limit' | 'claimed' | 'waived' | 'settled'>> {
  readonly kind: 'standing'
  readonly constraint: string
  readonly key: string
}

/** More was claimed than there is. */
export interface ViolationDifference extends Sides<Violation> {
  readonly kind: 'violation'
  readonly constraint: string
  readonly key: string
  readonly id: string
}

/** An event that is to come by itself. */
export interface TimerDifference
  extends Sides<{
    /** Log time, in milliseconds since 1970. */
    readonly at: number
    readonly data: unknown
  }> {
  readonly kind: 'timer'
  readonly event: string
  readonly scope: string
  readonly key: string
  /** The app's own name for it. */
  readonly name: string
}

/**
 * A difference as one line of JSON, without the line break: canonical (RFC 8785), so that equal differences are equal bytes.
 */
export function lineOf(difference: Difference): string {
  if (difference.kind !== 'effect') return canonicalJson(difference)
  const { delivery: _, ...lasting } = difference
  return canonicalJson(lasting)
}
