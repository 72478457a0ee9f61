import type { App } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import {
  type ClaimRow,
  claims,
  type Standing,
  standings,
  type Violation,
  violations,
} from '../constraint/tables.ts'
import { type Timer, timers } from '../derivation/timers.ts'
import { type EffectRow, effects } from '../effect/outbox.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { canonicalJson } from '../state/digest.ts'
import { decodeKey } from '../state/keys.ts'
import type { TableShape } from '../state/table.ts'
import type { AskedEffect, Difference, HeldUnits, Sides, StandingDifference } from './difference.ts'
import { type Readable, unequal } from './merge.ts'

/**
 * What is compared of a table of Hence's own. Its rows also hold what is of no account to whoever decides between two
 * versions of the code: how delivery goes, in which order claims came, which seed an event has.
 */
interface OwnTable {
  readonly shape: TableShape
  comparison(before: Side, after: Side): Iterable<Difference | undefined>
}

interface Side {
  readonly store: Readable
  readonly app: App
}

/**
 * @param told what of a row a person is told
 * @param options.compared what of that counts; default all
 * @param options.absent what it means that there is no row; default nothing
 */
function ownTable<Row, Told>(
  shape: TableShape,
  told: (row: Row) => Told,
  difference: (parts: readonly string[], sides: Sides<Told>) => Difference | undefined,
  options: {
    readonly compared?: (told: Told) => unknown
    readonly absent?: (app: App, parts: readonly string[]) => Told | undefined
  } = {},
): OwnTable {
  const { compared = (all) => all, absent = () => undefined } = options
  const kinds = ['string', ...shape.parts] as const
  const collection = `t:${shape.name}`
  const read = (app: App, parts: readonly string[], text: string | undefined) =>
    text === undefined ? absent(app, parts) : told(JSON.parse(text) as Row)
  const essence = (side: Told | undefined) => (side === undefined ? '' : canonicalJson(compared(side)))
  return {
    shape,
    *comparison(before, after) {
      for (const each of unequal(before.store.range(collection), after.store.range(collection))) {
        if (each === undefined) {
          yield undefined
          continue
        }
        const parts = decodeKey(kinds, each.key).parts as string[]
        const was = read(before.app, parts, each.before)
        const is = read(after.app, parts, each.after)
        if (essence(was) === essence(is)) continue
        const found = difference(parts, {
          ...(was !== undefined && { before: was }),
          ...(is !== undefined && { after: is }),
        })
        if (found !== undefined) yield found
      }
    },
  }
}

interface DeliveredEffect {
  readonly asked: AskedEffect
  readonly delivery: EffectRow['state']
}

const askedEffects = ownTable<EffectRow, DeliveredEffect>(
  effects,
  ({ type, input, scope, key, identity, at, state }) => ({
    asked: {
      type,
      input: JSON.parse(input),
      scope,
      key,
      requestId: requestIdOf(identity),
      principal: principalOf(identity),
      at,
    },
    delivery: state,
  }),
  ([id], { before, after }) => ({
    kind: 'effect',
    id: id!,
    ...(before && { before: before.asked, delivery: before.delivery }),
    ...(after && { after: after.asked }),
  }),
  { compared: ({ asked: { type, input, scope, key } }) => [type, input, scope, key] },
)

const heldClaims = ownTable<ClaimRow, HeldUnits>(
  claims,
  ({ units, priority, confirmed, holder, scope }) => ({ units, priority, confirmed, holder, scope }),
  ([key, constraint, identity], sides) => ({
    kind: 'claim',
    constraint: constraint!,
    key: key!,
    requestId: requestIdOf(identity!),
    principal: principalOf(identity!),
    ...sides,
  }),
)

const claimedKeys = ownTable<Standing, NonNullable<StandingDifference['after']>>(
  standings,
  ({ limit, claimed, waived, settled }) => ({ limit, claimed, waived, settled }),
  ([key, constraint], sides) => ({ kind: 'standing', constraint: constraint!, key: key!, ...sides }),
  {
    absent({ constraints }, [, constraint]) {
      const declared = constraints.get(constraint!)
      return declared && { limit: declared.limit, claimed: 0, waived: 0, settled: false }
    },
  },
)

const noticedViolations = ownTable<Violation, Violation>(
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

const setTimers = ownTable<Timer, { readonly at: number; readonly data: unknown }>(
  timers,
  ({ at, data }) => ({ at, data: JSON.parse(data) }),
  ([key, scope, event, name], sides) =>
    // Those of Hence's own are deadlines of violations, which tell them themselves.
    isSystemMessage(event!)
      ? undefined
      : { kind: 'timer', event: event!, scope: scope!, key: key!, name: name!, ...sides },
)

/**
 * Tables of Hence's own in the order that they are compared in. `hence.holders` is none of them: it says of each request what
 * `hence.claims` says of each key.
 */
export const ownTables: readonly OwnTable[] = [
  askedEffects,
  heldClaims,
  claimedKeys,
  noticedViolations,
  setTimers,
]
