import type { App } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import {
  type ClaimRow,
  claims,
  limitOf,
  type Usage,
  usage,
  type Violation,
  violations,
  type WaiterRow,
  waiters,
} from '../constraint/tables.ts'
import { type Timer, timers } from '../derivation/timers.ts'
import { type EffectRow, effects } from '../effect/outbox.ts'
import { senderOf } from '../identity.ts'
import { decodeKey } from '../state/keys.ts'
import { storedRow, type TableShape } from '../state/table.ts'
import type { BeforeAfter, ComparedClaim, ComparedEffect, Difference, UsageDifference } from './difference.ts'
import { type ComparedSide, differences } from './merge.ts'

/**
 * How a system table is compared. Its rows also hold values that do not matter to a person who chooses
 * between two versions of the code: the state of a delivery, the order of claims, the seed of an event.
 */
interface SystemTable {
  readonly shape: TableShape
  comparison(before: ComparedSide, after: ComparedSide): Iterable<Difference | undefined>
}

/**
 * @param shown the part of a row that a difference shows
 * @param options.compared the part of that which decides whether rows differ; default all of it
 * @param options.absent the value that a missing row stands for; default none
 */
function systemTable<Row, Shown>(
  shape: TableShape,
  shown: (row: Row, app: App, parts: readonly string[]) => Shown,
  difference: (parts: readonly string[], sides: BeforeAfter<Shown>) => Difference | undefined,
  options: {
    readonly compared?: (shown: Shown) => unknown
    readonly absent?: (app: App, parts: readonly string[]) => Shown | undefined
  } = {},
): SystemTable {
  const { absent = () => undefined, ...more } = options
  const kinds = ['string', ...shape.parts] as const
  const collection = `t:${shape.name}`
  const partsOf = (key: string) => decodeKey(kinds, key).parts as string[]
  return {
    shape,
    comparison(before, after) {
      const sides = { before, after }
      return differences<Shown>(before.store.range(collection), after.store.range(collection), {
        ...more,
        read(text, side, key) {
          const { app } = sides[side]
          if (text === undefined) return absent(app, partsOf(key))
          return shown(storedRow(shape, text) as Row, app, partsOf(key))
        },
        difference: (key, found) => difference(partsOf(key), found),
      })
    },
  }
}

interface DeliveredEffect {
  readonly effect: ComparedEffect
  readonly delivery: EffectRow['state']
}

const comparedEffects = systemTable<EffectRow, DeliveredEffect>(
  effects,
  ({ type, input, scope, key, identity, at, state }) => ({
    effect: { type, input: JSON.parse(input), scope, key, ...senderOf(identity), at },
    delivery: state,
  }),
  ([id], { before, after }) => ({
    kind: 'effect',
    id: id!,
    ...(before && { before: before.effect, delivery: before.delivery }),
    ...(after && { after: after.effect }),
  }),
  { compared: ({ effect: { type, input, scope, key } }) => [type, input, scope, key] },
)

const claimDifference = (
  [key, constraint, identity]: readonly string[],
  sides: BeforeAfter<ComparedClaim>,
): Difference => ({ kind: 'claim', constraint: constraint!, key: key!, ...senderOf(identity!), ...sides })

const comparedClaims = systemTable<ClaimRow, ComparedClaim>(
  claims,
  ({ units, priority, confirmed, holder, scope }) => ({ units, priority, confirmed, holder, scope }),
  claimDifference,
)

const comparedWaiters = systemTable<WaiterRow, ComparedClaim>(
  waiters,
  ({ units, priority, holder, scope, number }) => ({
    units,
    priority,
    confirmed: false,
    holder,
    scope,
    waiting: number,
  }),
  claimDifference,
)

const comparedUsage = systemTable<Usage, NonNullable<UsageDifference['after']>>(
  usage,
  ({ claimed, waived, settled, ...of }, { constraints }, [, constraint]) => ({
    limit: limitOf(constraints.get(constraint!) ?? { limit: 0 }, of),
    claimed,
    waived,
    settled,
  }),
  ([key, constraint], sides) => ({ kind: 'usage', constraint: constraint!, key: key!, ...sides }),
  {
    absent({ constraints }, [, constraint]) {
      const declared = constraints.get(constraint!)
      return declared && { limit: declared.limit, claimed: 0, waived: 0, settled: false }
    },
  },
)

const comparedViolations = systemTable<Violation, Violation>(
  violations,
  (violation) => violation,
  ([key, id], sides) => ({
    kind: 'violation',
    constraint: (sides.after ?? sides.before)!.constraint,
    key: key!,
    id: id!,
    ...sides,
  }),
)

const comparedTimers = systemTable<Timer, { readonly at: number; readonly data: unknown }>(
  timers,
  ({ at, data }) => ({ at, data: JSON.parse(data) }),
  ([key, scope, event, name], sides) =>
    // System timers are violation deadlines; the violation's difference already covers them.
    isSystemMessage(event!)
      ? undefined
      : { kind: 'timer', event: event!, scope: scope!, key: key!, name: name!, ...sides },
)

/**
 * The system tables in the order in which they are compared. `hence.holders` is left out: it says by request
 * what `hence.claims` says by key; and `hence.victims`: the claims that they lost are compared.
 */
export const systemTables: readonly SystemTable[] = [
  comparedEffects,
  comparedClaims,
  comparedWaiters,
  comparedUsage,
  comparedViolations,
  comparedTimers,
]
