import { changeError } from '../failure.ts'

/**
 * When a claim is judged. `strict`: before the client gets its answer; a claim beyond the limit is refused.
 * `loose`: after the client got its answer; an excess becomes a violation, and its victims are compensated.
 */
export type Mode = 'strict' | 'loose'

/**
 * Who gives way when claims exceed the limit. Confirmed claims (a passenger has checked in, goods have
 * shipped) give way after all others.
 */
export type Victims =
  /** The most recent claims. */
  | 'newest'
  /** The earliest claims. */
  | 'oldest'
  /** The claims with the lowest `priority`; among equals, the most recent. */
  | 'lowest-priority'

/** How far claims may exceed the limit: in units, or as a percentage of the limit, rounded down. */
export type Overbook = number | { readonly percent: number }

/**
 * Keeps the units claimed on one partition key within a limit. Claims are judged in that key's partition, in
 * log order. A unique constraint has the limit 1.
 */
export interface Constraint<Scope extends string = string, Name extends string = string> {
  readonly kind: 'constraint'
  readonly scope: Scope
  readonly name: Name
  readonly mode: Mode
  /** The limit of a key for which no derivation has set one. */
  readonly limit: number
  /** Whether derivations may change the limit. */
  readonly adjustable: boolean
  readonly overbook: Overbook
  readonly victims: Victims
  /** `human`: a violation waits for an operator until the deadline. */
  readonly review: 'auto' | 'human'
  /** How long a violation waits, in milliseconds of log time, before the `victims` policy decides. */
  readonly deadlineMs: number
  readonly waitingList?: WaitingList
  /**
   * Builds a claim on a key, for a request's `claims` to return.
   * @param units a whole number, at least 1; default 1
   */
  claim(key: string, units?: number, options?: ClaimOptions): Claim<Name>
}

export interface ClaimOptions {
  /** Default 0. */
  readonly priority?: number
  /**
   * Claims the units in exchange for what requests of the same partition key hold there: those units do not
   * count against the claim, and are released when the request is accepted. If it is refused, they stay.
   */
  readonly exchange?: boolean
  /** Joins the waiting list of the key instead of being refused or, if loose, in excess. Not for an exchange. */
  readonly wait?: boolean
}

/** Claims of a key that wait for units. They get what comes free in order, and nobody overtakes them. */
export interface WaitingList {
  /** Whether victims wait, instead of being compensated. Default false. */
  readonly victims?: boolean
  /**
   * How long a claim that waited has, once it is served, until `tx.confirm`: then its request is compensated,
   * and the next one is served. In milliseconds of log time; by default it need not be confirmed.
   */
  readonly confirmMs?: number
  /** The room for the list of one key, about 300 bytes a claim; default 1 MiB. */
  readonly maxBytes?: number
}

/** Units of a constraint that a request wants to hold until it releases them or gives way. */
export interface Claim<Name extends string = string> {
  readonly constraint: Name
  /** The partition key under which the claim is judged. */
  readonly key: string
  readonly units: number
  readonly priority: number
  readonly exchange?: true
  readonly wait?: true
}

/** Options of every constraint. */
export interface ConstraintOptions {
  /** Default `strict`. */
  readonly mode?: Mode
  /** Default `newest`. */
  readonly victims?: Victims
  /** Default `auto`. */
  readonly review?: 'auto' | 'human'
  /** With `review: 'human'`: default one day. */
  readonly deadlineMs?: number
  /** Lets claims wait for units; without it none can. */
  readonly waitingList?: WaitingList
}

/** Options of a capacity. */
export interface CapacityOptions extends ConstraintOptions {
  /** The limit of a key until `tx.setLimit` sets one; default 0. */
  readonly limit?: number
  /** Default 0. */
  readonly overbook?: Overbook
}

const dayMs = 86_400_000

/** @throws HenceError `app-invalid` (change) for an option that does not exist, or a value that it cannot have */
export function constraint<S extends string, Name extends string>(
  scope: S,
  name: Name,
  adjustable: boolean,
  options: CapacityOptions,
): Constraint<S, Name> {
  checkOptions(name, options)
  const { mode = 'strict', victims = 'newest', review = 'auto', deadlineMs = dayMs, overbook = 0 } = options
  const { waitingList } = options
  const limit = options.limit ?? 0
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
    ...(waitingList && { waitingList }),
    claim: (key, units = 1, { priority = 0, exchange = false, wait = false } = {}) => {
      if (typeof key !== 'string' || !Number.isFinite(priority)) {
        throw changeError(
          'claim-invalid',
          `A claim on "${name}" needs a string as its key and a finite number as its priority.`,
        )
      }
      if (!isCount(units) || units === 0 || (!adjustable && units !== 1)) {
        throw changeError(
          'claim-invalid',
          `A claim on "${name}" must be for ` +
            `${adjustable ? 'a whole number of units, at least 1' : 'one unit'}, not for ${units}.`,
        )
      }
      if (wait && (exchange || waitingList === undefined)) {
        throw changeError(
          'claim-invalid',
          `A claim on "${name}" cannot wait: ` +
            `${exchange ? 'it is an exchange' : 'the constraint declares no waitingList'}.`,
        )
      }
      return { constraint: name, key, units, priority, ...(exchange && { exchange }), ...(wait && { wait }) }
    },
  }
}

const isFlag = (value: unknown) => typeof value === 'boolean'
const oneOf =
  (...values: readonly unknown[]) =>
  (value: unknown) =>
    values.includes(value)
function isMargin(value: unknown): boolean {
  const { percent } = (value ?? {}) as { readonly percent?: unknown }
  return isCount(value) || (typeof percent === 'number' && percent >= 0)
}

/** By option: the values that it can have. Plain JavaScript has no types, and a slip must not be silent. */
const checks: Readonly<Record<string, (value: unknown) => boolean>> = {
  mode: oneOf('strict', 'loose'),
  victims: oneOf('newest', 'oldest', 'lowest-priority'),
  review: oneOf('auto', 'human'),
  deadlineMs: isCount,
  limit: isCount,
  overbook: isMargin,
  waitingList: (value) => typeof value === 'object' && value !== null,
}
const waitingChecks: typeof checks = { victims: isFlag, confirmMs: isCount, maxBytes: isCount }

function checkOptions(name: string, options: object, known = checks, path = ''): void {
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined) continue
    if (known[option]?.(value) !== true) {
      throw changeError(
        'app-invalid',
        `The option \`${path}${option}\` of constraint "${name}" ` +
          (known[option] === undefined
            ? `does not exist; there are ${Object.keys(known).join(', ')}.`
            : `cannot be ${JSON.stringify(value)}.`),
      )
    }
    if (option === 'waitingList') checkOptions(name, value, waitingChecks, 'waitingList.')
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
