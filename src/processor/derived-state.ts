import { systemTables } from '../derivation/context.ts'
import type { Program } from '../sandbox/program.ts'
import type { State } from '../state/state.ts'
import { collectionsOf, TableState } from '../state/table.ts'
import { Channels } from './channels.ts'
import { DerivedEventOrder } from './derived-order.ts'
import { Outcomes } from './outcomes.ts'
import { Traces } from './traces.ts'

/** The collections that a store must have for everything that a program derives. */
export function collectionsFor({ app }: Program): string[] {
  const shapes = [...app.tables.values(), ...systemTables]
  const orders = [...Channels.collections, ...DerivedEventOrder.collections]
  const beside = [...Outcomes.collections, ...Traces.collections, ...orders]
  return ['meta', ...beside, ...collectionsOf(shapes)]
}

/** The tables of a program and the system tables, over a state; by name. */
export function tablesFor({ app, realm }: Program, state: State): Map<string, TableState> {
  const rows = {
    encode: (row: unknown) => JSON.stringify(row),
    decode: (text: string) => realm.parseFrozen(text),
  }
  const tables = new Map<string, TableState>()
  for (const shape of app.tables.values()) tables.set(shape.name, new TableState(state, shape, rows))
  for (const shape of systemTables) {
    const encode = shape.isCold ? (row: unknown) => Buffer.from(JSON.stringify(row)) : JSON.stringify
    const codec = shape.text ?? { encode, decode: JSON.parse }
    tables.set(shape.name, new TableState(state, shape, codec))
  }
  return tables
}
