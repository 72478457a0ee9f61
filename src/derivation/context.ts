import type { Constraint, Table } from '../app/index.ts'
import { constraintTables, isReadable } from '../constraint/tables.ts'
import { effects, Outbox } from '../effect/outbox.ts'
import { changeError } from '../failure.ts'
import type { Ruling } from '../log/record.ts'
import type { Program } from '../sandbox/program.ts'
import type { Interrupted } from '../sandbox/timed.ts'
import type { State, StateChange } from '../state/state.ts'
import type { TableShape, TableState } from '../state/table.ts'
import { EarlyResults, earlyResults } from './early-results.ts'
import { Timers, timers } from './timers.ts'
import { parked, WaitingKeys, waiting } from './waiting-keys.ts'

/** The tables that Hence keeps beside those of the app. */
export const systemTables: readonly TableShape[] = [
  ...Object.values(constraintTables),
  effects,
  earlyResults,
  timers,
  waiting,
  parked,
]

export type Rows = Pick<TableState, 'get' | 'put' | 'delete' | 'scan'>

/** A program, and the state that it derives. */
export interface DerivationContext {
  readonly program: Program
  /** By their definitions, which are objects of the program's realm. */
  readonly tables: ReadonlyMap<Table, Rows>
  readonly constraints: Readonly<Record<keyof typeof constraintTables, TableState>>
  readonly outbox: Outbox
  readonly earlyResults: EarlyResults
  readonly timers: Timers
  readonly waiting: WaitingKeys
  /**
   * The watermark of the record's partition. Older effects that are done, early results and resolved
   * violations count as unknown: a checkpoint may have removed their rows or not.
   */
  readonly forgottenBefore: () => number
  /** Whether rows, the data of events and the inputs of effects are checked against their schemas. */
  readonly checked: boolean
}

/** The record that is being derived, and access to the state as a whole. */
export interface RecordContext {
  readonly logId: string
  /** The position of the record, and its log time. */
  readonly partition: number
  readonly offset: number
  readonly time: number
  /** The position of a request that this code derives in another partition than that of its record. */
  readonly root: { readonly partition: number; readonly offset: number } | undefined
  readonly rulings: readonly Ruling[]
  /** Whether the time of each derivation that runs the app's code is taken. */
  readonly isWatched: boolean
  /** Called, while the time is taken, before each derivation that runs the app's code. */
  readonly begins: ((derivation: Interrupted) => void) | undefined
  /** Such a derivation that has begun and not ended, and when it began. */
  underWay:
    | { readonly n: number; readonly derivation: Omit<Interrupted, 'n'>; readonly since: number }
    | undefined
  /** How many derivations of the record have begun. */
  attempts: number
  /** How long the longest of them took, in milliseconds, if the time was taken. */
  longestMs: number
  /** Whether a partition key belongs to the partition of the record. */
  isHere(key: string): boolean
  mark(): number
  undo(mark: number): void
  changes(mark: number): readonly StateChange[]
  /** Those of rows that an app or an operator can read. */
  readableChanges(mark: number): readonly StateChange[]
}

/** Creates the record context of a state. Set its fields before each record is derived. */
export function recordContext(
  state: State,
  logId: string,
  isHere: (key: string, partition: number) => boolean,
): { -readonly [K in keyof RecordContext]: RecordContext[K] } {
  const context = {
    logId,
    partition: 0,
    offset: 0,
    time: 0,
    root: undefined,
    rulings: noRulings,
    isWatched: false,
    begins: undefined,
    underWay: undefined,
    attempts: 0,
    longestMs: 0,
    isHere: (key: string) => isHere(key, context.partition),
    mark: () => state.mark(),
    undo: (mark: number) => state.undo(mark),
    changes: (mark: number) => state.changes(mark),
    readableChanges: (mark: number) => state.changes(mark, isReadable),
  }
  return context
}

export const noRulings: readonly Ruling[] = []

/** @param tables by name, system tables too; the same state serves every realm that the app is loaded into */
export function derivationContext(
  program: Program,
  tables: ReadonlyMap<string, TableState>,
  checked: boolean,
  forgottenBefore: () => number = () => 0,
): DerivationContext {
  const appTables = new Map<Table, TableState>()
  for (const [name, table] of program.app.tables) appTables.set(table, tables.get(name)!)
  const system = ({ name }: TableShape) => tables.get(name)!
  return {
    program,
    tables: appTables,
    constraints: Object.fromEntries(
      Object.entries(constraintTables).map(([name, shape]) => [name, system(shape)]),
    ) as DerivationContext['constraints'],
    outbox: new Outbox(system(effects), forgottenBefore),
    earlyResults: new EarlyResults(system(earlyResults), forgottenBefore),
    timers: new Timers(system(timers)),
    waiting: new WaitingKeys(system(waiting), system(parked)),
    forgottenBefore,
    checked: checked || program.app.checksSchemas,
  }
}

/** The same state under the app of another realm. */
export function inRealmOf(
  program: Program,
  context: DerivationContext,
  tables: ReadonlyMap<string, TableState>,
): DerivationContext {
  const appTables = new Map<Table, Rows>()
  for (const [name, table] of program.app.tables) appTables.set(table, sealedIn(program, tables.get(name)!))
  return { ...context, program, tables: appTables }
}

/** The rows of a table as values of a realm other than the one in which the state creates them. */
function sealedIn({ realm }: Program, table: TableState): Rows {
  const sealed = (row: unknown) => (row === undefined ? undefined : realm.seal(row))
  return {
    get: (key) => sealed(table.get(key)),
    put: (key, row) => table.put(key, row),
    delete: (key) => table.delete(key),
    scan: (query, within) =>
      table.scan(query, within).map(({ key, value }) => ({ key, value: sealed(value) })),
  }
}

export function constraintNamed({ program: { app } }: DerivationContext, name: string): Constraint {
  const constraint = app.constraints.get(name)
  if (constraint !== undefined) return constraint
  throw changeError(
    'unknown-definition',
    `The constraint "${name}" is not one of the app's: list it under \`constraints\`.`,
  )
}
