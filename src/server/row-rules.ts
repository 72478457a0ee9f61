import type { App, KeyPart, Table } from '../app/index.ts'
import { operatorTables } from '../constraint/tables.ts'
import { HenceError } from '../failure.ts'
import type { StoryChange } from '../query/story.ts'
import type { Reporter } from '../report.ts'
import type { TableShape } from '../state/table.ts'
import { allows, type Caller } from './caller.ts'

/** Whether a caller may see a row. */
export type Visible = (row: unknown, key: readonly KeyPart[]) => boolean

/** Decides which rows a caller sees: all with the permission `read`, else those that the tables' rules allow. */
export class RowRules {
  readonly #engine: { readonly app: App }
  readonly #report: Reporter

  /** @param engine its app may change at any time, by a promotion */
  constructor(engine: { readonly app: App }, report: Reporter) {
    this.#engine = engine
    this.#report = report
  }

  /**
   * The rows of a table that a caller sees: all, or those that pass.
   * @throws HenceError `unknown-table`, `not-allowed` (change)
   */
  of(caller: Caller, table: string): 'all' | Visible {
    if (operatorTables.has(table)) {
      if (allows(caller, 'operate')) return 'all'
      throw notAllowed('operate', `table "${table}"`)
    }
    const definition = this.#appTable(table)
    if (allows(caller, 'read')) return 'all'
    if (definition.read === undefined) throw notAllowed('read', `table "${table}"`)
    return this.#rule(caller, definition)
  }

  /** The part of a change that the caller may see; undefined if neither the old nor the new row is theirs. */
  change<C extends StoryChange>(caller: Caller, change: C): C | undefined {
    if (operatorTables.has(change.table)) return allows(caller, 'operate') ? change : undefined
    if (allows(caller, 'read')) return change
    const definition = this.#appTable(change.table)
    if (definition.read === undefined) return undefined
    const visible = this.#rule(caller, definition)
    const { key } = change
    const before = change.before !== undefined && visible(change.before, key) ? change.before : undefined
    const after = change.after !== undefined && visible(change.after, key) ? change.after : undefined
    return before === undefined && after === undefined ? undefined : { ...change, before, after }
  }

  /** A rule that throws hides the row. */
  #rule(caller: Caller, { name, read }: Table): Visible {
    const who = { id: caller.principal }
    return (row, key) => {
      try {
        return read!(who, row, key as never) === true
      } catch (error) {
        this.#report({
          level: 'alarm',
          code: 'read-rule-threw',
          message: `The \`read\` rule of table "${name}" threw for row ${JSON.stringify(key)}, which stays hidden: ${error}`,
        })
        return false
      }
    }
  }

  /** A table of the app, or a system table that operators read. */
  table(name: string): TableShape {
    return operatorTables.get(name) ?? this.#appTable(name)
  }

  #appTable(name: string): Table {
    const { app } = this.#engine
    const definition = app.tables.get(name)
    if (definition) return definition
    throw new HenceError(
      'unknown-table',
      'change',
      `The app "${app.name}" has no table ${JSON.stringify(name)}; it has ${[...app.tables.keys()].join(', ')}.`,
    )
  }
}

export function notAllowed(permission: string, what: string): HenceError {
  return new HenceError('not-allowed', 'change', `The permission \`${permission}\` is needed for ${what}.`)
}
