import { HenceError } from '../failure.ts'

/**
 * When a claim is judged. `strict`: before the client is answered; too much is refused. `loose`: the client is
 * answered at once and the claim judged afterwards; too much becomes a violation, and its victims are
 * compensated.
 */
export type Mode = 'strict' | 'loose'

/**
 * Who must give way when more is claimed than there is. Claims that were confirmed (a passenger has checked in,
 * goods have been shipped) give way after all that were not.
 */
export type Victims =
  /** Those who claimed last. */
  | 'newest'
  /** Those who claimed first. */
  | 'oldest'
  /** Those whose claim has the lowest `priority`; among equals, those who claimed last. */
  | 'lowest-priority'

/** How much more than the limit may be claimed: so many units, or a percentage of the limit, rounded down. */
export type Overbook = number | { readonly percent: number }

/**
 * A rule about all claims on one partition key of its scope, judged in that key's partition in the order of
 * the log: the units claimed stay within a limit. A unique constraint is one with the limit 1.
 */
export interface Constraint<Scope extends string = string, Name extends string = string> {
  readonly kind: 'constraint'
  readonly scope: Scope
  readonly name: Name
  readonly mode: Mode
  /** The limit of a key that none was set for. */
  readonly limit: number
  /** Whether derivations may change the limit. */
  readonly adjustable: boolean
  readonly overbook: Overbook
  readonly victims: Victims
  /** `human`: a violation waits for an operator, until the deadline. */
  readonly review: 'auto' | 'human'
  /** How long it waits, in milliseconds of log time; then the policy decides. */
  readonly deadlineMs: number
  /**
   * A claim on a key, to be returned by a request's `claims`.
   * @param units whole, at least 1; default 1
   */
  claim(key: string, units?: number, options?: { readonly priority?: number }): Claim<Name>
}

/** What a request wants to hold for as long as it stands. */
export interface Claim<Name extends string = string> {
  readonly constraint: Name
  /** The partition key that it is judged under. */
  readonly key: string
  readonly units: number
  readonly priority: number
}

/** What a constraint may be told besides its name. */
export interface ConstraintOptions {
  /** Default `strict`. */
  readonly mode?: Mode
  /** Default `newest`. */
  readonly victims?: Victims
  /** Default `auto`. */
  readonly review?: 'auto' | 'human'
  /** With `review: 'human'`: default one day. */
  readonly deadlineMs?: number
}

/** A capacity's limit besides. */
export interface CapacityOptions extends ConstraintOptions {
  /** The limit of a key that none was set for by `tx.setLimit`; default 0. */
  readonly limit?: number
  /** Default 0. */
  readonly overbook?: Overbook
}

const dayMs = 86_400_000

/** @throws HenceError `app-invalid` (change) when the options make no sense */
export function constraint<S extends string, Name extends string>(
  scope: S,
  name: Name,
  adjustable: boolean,
  options: CapacityOptions,
): Constraint<S, Name> {
  const { mode = 'strict', victims = 'newest', review = 'auto', deadlineMs = dayMs, overbook = 0 } = options
  const limit = options.limit ?? 0
  const percent = typeof overbook === 'number' ? 0 : overbook.percent
  const margin = typeof overbook === 'number' ? overbook : 0
  if (!isCount(limit) || !isCount(margin) || !(percent >= 0) || !isCount(deadlineMs)) {
    throw new HenceError(
      'app-invalid',
      'change',
      `The constraint "${name}" has a limit, a margin or a deadline that is no whole number from 0 on.`,
    )
  }
  return {
    kind: 'constraint',
    scope,
    name,
    mode,
    limit,
    adjustable,
    overbook,
    victims,
    review,
    deadlineMs,
    claim: (key, units = 1, { priority = 0 } = {}) => {
      if (typeof key !== 'string' || !Number.isFinite(priority)) {
        throw new HenceError(
          'claim-invalid',
          'change',
          `A claim on "${name}" must be on a key that is text, with a finite number as its priority.`,
        )
      }
      if (!isCount(units) || units === 0 || (!adjustable && units !== 1)) {
        throw new HenceError(
          'claim-invalid',
          'change',
          `A claim on "${name}" must be of ${adjustable ? 'a whole number of units, at least 1' : 'one unit'}, not of ${units}.`,
        )
      }
      return { constraint: name, key, units, priority }
    },
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
