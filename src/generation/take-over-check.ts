import type { App, Event, Request, Table } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import type { KeyKind } from '../app/table.ts'
import { type ClaimHolder, type ClaimRow, claims, holders, type Usage, usage } from '../constraint/tables.ts'
import { type Timer, timers } from '../derivation/timers.ts'
import { type EffectRow, effects } from '../effect/outbox.ts'
import { changeError, type HenceError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { decodeKey } from '../state/keys.ts'
import type { Store } from '../state/store.ts'
import { indexOf, storedRow, type TableShape } from '../state/table.ts'
import { newIndexes } from './take-over.ts'

/**
 * Checks whether new code can continue with the state that other code derived. This must happen before the
 * log says that the new code is in force: afterwards, neither version could start.
 *
 * @param store a whole checkpoint, with no events in flight
 * @throws HenceError `table-shape-changed` (change) if the key of a table has changed, or a new index cannot
 *   take one of its rows; `take-over-incomplete` (change) if a timer, a claim or an effect needs a definition
 *   that the new code lacks
 */
export function checkTakeOver(store: Pick<Store, 'range'>, before: App, after: App): void {
  for (const table of after.tables.values()) {
    const old = before.tables.get(table.name)
    if (old === undefined) continue
    if (shapeOf(old) !== shapeOf(table))
      throw changeError(
        'table-shape-changed',
        `The key of table "${table.name}" was ${shapeOf(old)}, and in the new code it is ${shapeOf(table)}, ` +
          `so the new code cannot continue with the existing rows. ${otherwise}`,
      )
    checkIndexes(store, table, newIndexes(old, table))
  }
  for (const [[key, , event], timer] of rowsOf<Timer>(store, timers)) {
    const { version = 1 } = timer
    if (!isSystemMessage(event!) && !knows(after.events.get(event!), version))
      throw incomplete(`a timer of ${JSON.stringify(key)}`, `the event "${event}" (version ${version})`)
  }
  for (const [[, , identity], holder] of rowsOf<ClaimHolder>(store, holders)) {
    const { type, version = 1 } = holder
    if (knows(after.requests.get(type), version)) continue
    const who = `${requestIdOf(identity!)} of ${JSON.stringify(principalOf(identity!))}`
    throw incomplete(
      `the request ${who}, which holds claims and may have to be compensated`,
      `"${type}" (version ${version})`,
    )
  }
  for (const [[key, name], row] of rowsOf<Usage>(store, usage)) {
    const { set, adjusted, claimed, waiting, violation } = row
    const at = `${JSON.stringify(name)} at ${JSON.stringify(key)}`
    const constraint = after.constraints.get(name!)
    const scope = before.constraints.get(name!)?.scope
    if (constraint === undefined) {
      if (claimed > 0 || waiting > 0 || violation !== null)
        throw incomplete(`a claim on ${at}`, `the constraint "${name}"`)
    } else if (scope !== undefined && constraint.scope !== scope) {
      throw incomplete(`a claim on ${at}, or a limit of it`, `"${name}" in the scope "${scope}"`)
    } else if (!constraint.adjustable && (set !== null || adjusted !== 0)) {
      throw incomplete(`a limit of ${at} that was set`, `"${name}" as a capacity, but as unique`)
    }
  }
  for (const [[key, name], { units }] of rowsOf<ClaimRow>(store, claims)) {
    if (units === 1 || after.constraints.get(name!)?.adjustable !== false) continue
    const what = `a claim of ${units} units on ${JSON.stringify(name)} at ${JSON.stringify(key)}`
    throw incomplete(what, `"${name}" as a capacity, but as unique`)
  }
  for (const [[id], { type, state }] of rowsOf<EffectRow>(store, effects)) {
    if (state === 'pending' && !after.effects.has(type))
      throw incomplete(`the effect ${id}, which is not delivered yet`, `"${type}"`)
  }
}

function* rowsOf<Row>(store: Pick<Store, 'range'>, shape: TableShape): Iterable<[key: string[], row: Row]> {
  const kinds: KeyKind[] = ['string', ...shape.parts]
  for (const [key, text] of store.range(`t:${shape.name}`))
    yield [decodeKey(kinds, key).parts as string[], storedRow(shape, text) as Row]
}

function knows(message: Event | Request | undefined, version: number): boolean {
  return message !== undefined && version <= message.version
}

function checkIndexes(store: Pick<Store, 'range'>, table: Table, names: readonly string[]): void {
  if (names.length === 0) return
  const indexes = names.map((name) => ({ name, ...indexOf(table, name) }))
  for (const [rowKey, text] of store.range(`t:${table.name}`)) {
    const row = JSON.parse(text)
    for (const { name, entries } of indexes) {
      try {
        entries(rowKey, row)
      } catch (error) {
        throw notIndexed(table, name, rowKey, error)
      }
    }
  }
}

const shapeOf = ({ scope, parts }: Table): string => `[${[`a key of scope ${scope}`, ...parts].join(', ')}]`

const otherwise =
  'Nothing was changed. Derive everything again with the new code (`hence reprocess`), or give the table another name.'

function notIndexed({ name, parts }: Table, index: string, rowKey: string, cause: unknown): HenceError {
  const key = JSON.stringify(decodeKey(['string', ...parts], rowKey).parts)
  return changeError(
    'table-shape-changed',
    `The new index "${index}" cannot take the row of table "${name}" at ${key}: ` +
      `${cause instanceof Error ? cause.message : cause} ${otherwise}`,
    { cause },
  )
}

const incomplete = (what: string, lacks: string) =>
  changeError(
    'take-over-incomplete',
    `The new code cannot continue: there is ${what}, and it does not define ${lacks}. Nothing was changed. ` +
      'Restore the definition until nothing needs it, or derive everything again with the new code ' +
      '(`hence reprocess`).',
  )
