import type { Outcome, Schema } from '../app/index.ts'
import { type OperatorDecision, resolve } from '../constraint/review.ts'
import type { Turn } from '../constraint/turn.ts'
import type { Outbox } from '../effect/outbox.ts'
import { shown } from '../failure.ts'
import { identityOf } from '../identity.ts'
import { encodeKey } from '../state/keys.ts'

/**
 * A request of an operator: an ordinary request, with an id, a principal and a position in the log, that
 * Hence decides itself. Its name begins with `hence:`, which no app can use.
 */
interface OperatorRequest<Input = never> {
  readonly name: string
  readonly input: Schema<Input>
  /** The partition key that it is decided under. */
  key(input: Input): string
  /** @returns the outcome, and the ids of effects to deliver */
  decide(
    turn: Turn,
    outbox: Outbox,
    input: Input,
  ): { readonly outcome: Outcome; readonly effects?: readonly string[] }
}

/** Decides an open violation. */
export interface ResolveInput {
  /** The id of the violation, and the key that its constraint is judged under. */
  readonly violation: string
  readonly key: string
  /**
   * `compensate`: the policy chooses the victims now; `waive`: accept the excess; `raise-limit`: by `units`,
   * or by the excess; `choose`: these requests give way.
   */
  readonly action: OperatorDecision['action']
  readonly units?: number
  readonly victims?: readonly { readonly requestId: string; readonly principal?: string }[]
  /** The reason; it stays in the history of the violation. */
  readonly reason: string
}

/** Delivers a dead effect again. */
export interface RedriveInput {
  readonly effect: string
  /** The partition key of the derivation that asked for it. */
  readonly key: string
  /** Send it again although the receiver may have forgotten that it received it. */
  readonly mayRepeat?: boolean
  readonly reason: string
}

const resolveViolation: OperatorRequest<ResolveInput> = {
  name: 'hence:resolve-violation',
  input: schema(['violation', 'key', 'action', 'units', 'victims', 'reason'], (value) => {
    const { violation, key, action, units, victims, reason } = value
    if (!isText(violation) || typeof key !== 'string' || !isKey(key, violation))
      return 'violation and key must name a violation'
    if (!isText(reason)) return 'reason must say why'
    if (!['compensate', 'waive', 'raise-limit', 'choose'].includes(action as string)) {
      return 'action must be compensate, waive, raise-limit or choose'
    }
    if (units !== undefined && (!Number.isSafeInteger(units) || (units as number) < 1)) {
      return 'units must be a whole number from 1 on'
    }
    if (victims === undefined && action !== 'choose') return undefined
    const named =
      Array.isArray(victims) &&
      victims.length <= victimsMax &&
      victims.every((victim) => typeof victim === 'object' && victim !== null && isIdentity(victim))
    return named ? undefined : `victims must name ${victimsMax} requests at most: [{ requestId, principal }]`
  }),
  key: ({ key }) => key,
  decide(turn, _, { violation, action, units, victims = [], reason }) {
    const identities = victims.map(({ requestId, principal }) => identityOf(requestId, principal ?? ''))
    const decision = (
      action === 'choose'
        ? { action, victims: identities }
        : { action, ...(units !== undefined && { units }) }
    ) as OperatorDecision
    return outcomeOf(resolve(turn, violation, decision, reason))
  },
}

/** So many claims can be taken away in one step. */
const victimsMax = 100

const redrive: OperatorRequest<RedriveInput> = {
  name: 'hence:redrive',
  input: schema(['effect', 'key', 'mayRepeat', 'reason'], ({ effect, key, mayRepeat = false, reason }) =>
    isText(effect) &&
    isKey(effect) &&
    typeof key === 'string' &&
    isText(reason) &&
    typeof mayRepeat === 'boolean'
      ? undefined
      : 'effect, key and reason must be text, mayRepeat true or false',
  ),
  key: ({ key }) => key,
  decide: ({ key, now }, outbox, { effect, mayRepeat = false }) => ({
    ...outcomeOf(outbox.redrive(effect, key, now, mayRepeat)),
    effects: [effect],
  }),
}

export const operatorRequests: ReadonlyMap<string, OperatorRequest> = new Map(
  [resolveViolation, redrive].map((request) => [request.name, request as OperatorRequest]),
)

function outcomeOf(refusal: string | undefined): { readonly outcome: Outcome } {
  if (refusal === undefined) return { outcome: { status: 'accepted', value: null } }
  return { outcome: { status: 'rejected', reason: refusal } }
}

/** @param problem returns what is wrong with an input; undefined if nothing is */
function schema<Input>(
  names: readonly (keyof Input & string)[],
  problem: (value: Record<string, unknown>) => string | undefined,
): Schema<Input> {
  return {
    '~standard': {
      version: 1,
      vendor: 'hence',
      validate(value) {
        const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
        const unknown = isObject && Object.keys(value).find((name) => !names.includes(name as never))
        const message = !isObject
          ? 'it must be an object'
          : unknown !== undefined
            ? `it must not have the member ${JSON.stringify(shown(unknown as string))}`
            : problem(value as Record<string, unknown>)
        return message === undefined ? { value: value as Input } : { issues: [{ message }] }
      },
    },
  }
}

/** Checked before the log: a bad id would fail the derivation of a request that is in it. */
function isIdentity({ requestId, principal = '' }: { requestId?: unknown; principal?: unknown }): boolean {
  try {
    return typeof identityOf(requestId as string, principal as string) === 'string'
  } catch {
    return false
  }
}

/** As `isIdentity`: a row cannot have a key that is too long. */
function isKey(...parts: readonly string[]): boolean {
  try {
    return encodeKey(parts) !== ''
  } catch {
    return false
  }
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
