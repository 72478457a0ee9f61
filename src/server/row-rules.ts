import type { App, KeyPart, Query, QueryPart, ReadRule, Table } from '../app/index.ts'
import { operatorTables } from '../constraint/tables.ts'
import { effects } from '../effect/outbox.ts'
import { changeError, HenceError, operatorError } from '../failure.ts'
import type { StoryChange } from '../query/story.ts'
import type { Reporter } from '../report.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import type { TableShape } from '../state/table.ts'
import { allows, type Caller } from './caller.ts'

type Visible = (row: unknown, key: readonly KeyPart[]) => boolean

type RangeRule = Exclude<ReadRule<unknown>, string | ((...args: never) => boolean)>

/** How long the rules of one read may take, in milliseconds. */
const ruleMs = 1_000

const all: Visible = () => true
const none: Visible = () => false

/**
 * Decides which rows a caller sees. Scans and watches never walk a row that the caller may not see: ranges,
 * cursors and times would disclose how many there are.
 */
export class RowRules {
  /** Its app may change at any time, by a promotion. */
  readonly #engine: { readonly app: App }
  readonly #report: Reporter

  constructor(engine: { readonly app: App }, report: Reporter) {
    this.#engine = engine
    this.#report = report
  }

  /** Acts with what the other methods return, which runs code of the app, and ends it if it takes too long. */
  async limited<T>(read: string, act: () => T): Promise<T> {
    let result: { readonly value: T } | undefined
    await withinLimit(ruleMs, () => {
      result = { value: act() }
    })
    if (result !== undefined) return (result as { readonly value: T }).value
    const message =
      `The \`read\` rules took more than ${ruleMs} ms for ${read}, so nothing was read. A regular expression ` +
      'may backtrack: bound what it repeats.'
    this.#report({ level: 'alarm', code: 'read-rule-too-long', message })
    throw operatorError('read-rule-too-long', message)
  }

  /** For reads of single keys. */
  row(caller: Caller, name: string): Visible {
    const table = this.table(name)
    const rule = this.#ruleOf(caller, table)
    if (rule === 'everybody') return all
    if (rule === undefined) throw notAllowed('read', `table "${name}"`)
    if (typeof rule === 'function') return this.#function(caller, name, rule)
    return this.#range(caller, table, rule)
  }

  /** For watches: as `row`, for rules that name a range. */
  watch(caller: Caller, name: string): Visible {
    if (name === effects.name) {
      if (allows(caller, 'operate')) return all
      throw notAllowed('operate', 'effects')
    }
    if (typeof this.#ruleOf(caller, this.table(name)) === 'function') throw singleKeysOnly(name)
    return this.row(caller, name)
  }

  /** For scans: the query for those rows of the asked ones that the caller may see; undefined for none. */
  query(caller: Caller, name: string, asked: Query): Query | undefined {
    const table = this.table(name)
    const rule = this.#ruleOf(caller, table)
    if (rule === 'everybody') return asked
    if (rule === undefined) throw notAllowed('read', `table "${name}"`)
    if (typeof rule === 'function') throw singleKeysOnly(name)
    const { prefix = [], from, to } = asked
    const index = indexFor(table, rule, asked.index)
    const own = this.#valueOf(caller, table, rule)
    if (own === undefined) return undefined
    // In the order of the key, an index serves the query: the reader's value comes before the asked parts.
    if (index !== asked.index) return { ...asked, index: index!, prefix: [own, ...prefix] }
    if (prefix.length > 0) return prefix[0] === own ? asked : undefined
    if (from === undefined && to === undefined) return { ...asked, prefix: [own] }
    throw changeError(
      'query-invalid',
      `Without the permission \`read\`, \`from\` and \`to\` on table "${name}" need a \`prefix\` that ` +
        'begins with your own value.',
    )
  }

  /** Returns the part of each change that the caller may see, as a row or in a watch; undefined: none. */
  changes(caller: Caller, as: 'row' | 'watch'): <C extends StoryChange>(change: C) => C | undefined {
    let { app } = this.#engine
    const byTable = new Map<string, Visible>()
    return (change) => {
      if (app !== this.#engine.app) byTable.clear()
      app = this.#engine.app
      const { table, key } = change
      const visible = byTable.get(table) ?? orNone(() => this[as](caller, table))
      byTable.set(table, visible)
      const before = change.before !== undefined && visible(change.before, key) ? change.before : undefined
      const after = change.after !== undefined && visible(change.after, key) ? change.after : undefined
      return before === undefined && after === undefined ? undefined : { ...change, before, after }
    }
  }

  /** A table of the app, or a system table that operators read. */
  table(name: string): TableShape & Partial<Pick<Table, 'read'>> {
    const { app } = this.#engine
    const table = operatorTables.get(name) ?? app.tables.get(name)
    if (table) return table
    throw changeError(
      'unknown-table',
      `The app "${app.name}" has no table ${JSON.stringify(name)}; it has ${[...app.tables.keys()].join(', ')}.`,
    )
  }

  #ruleOf(caller: Caller, { name, read }: ReturnType<RowRules['table']>): ReadRule<unknown> | undefined {
    if (operatorTables.has(name)) {
      if (allows(caller, 'operate')) return 'everybody'
      throw notAllowed('operate', `table "${name}"`)
    }
    return allows(caller, 'read') ? 'everybody' : read
  }

  #range(caller: Caller, table: TableShape, rule: RangeRule): Visible {
    const own = this.#valueOf(caller, table, rule)
    if (own === undefined) return none
    if (rule.index === undefined) return (_, [partitionKey]) => partitionKey === own
    const field = table.indexes[rule.index]![0]!
    return (row) => (row as Record<string, unknown>)[field] === own
  }

  #valueOf({ principal }: Caller, { name }: TableShape, { index, equals }: RangeRule): QueryPart | undefined {
    try {
      const own = equals({ id: principal })
      return index === undefined && typeof own !== 'string' ? undefined : own
    } catch (error) {
      this.#threw(name, `, so its rows stay hidden from a reader: ${error}`)
      return undefined
    }
  }

  /** A rule that throws hides the row. */
  #function(
    { principal }: Caller,
    name: string,
    rule: Extract<ReadRule<unknown>, (...args: never) => boolean>,
  ): Visible {
    return (row, key) => {
      try {
        return rule({ id: principal }, row as never, key as never) === true
      } catch (error) {
        this.#threw(name, ` for row ${JSON.stringify(key)}, which stays hidden: ${error}`)
        return false
      }
    }
  }

  #threw(table: string, how: string): void {
    const message = `The \`read\` rule of table "${table}" threw${how}`
    this.#report({ level: 'alarm', code: 'read-rule-threw', message })
  }
}

function orNone(visible: () => Visible): Visible {
  try {
    return visible()
  } catch (error) {
    if (error instanceof HenceError && error.code === 'not-allowed') return none
    throw error
  }
}

/** The index, or undefined for the key, in whose order the rows of a rule's reader are one range. */
function indexFor(
  { name, indexes }: TableShape,
  rule: RangeRule,
  asked: string | undefined,
): string | undefined {
  const { index: ruled } = rule
  if (ruled === undefined) {
    if (asked === undefined) return undefined
    throw notByThis(name, 'leave out `index`')
  }
  const field = indexes[ruled]![0]
  if (asked !== undefined) {
    if (indexes[asked]?.[0] === field) return asked
  } else {
    // In the order of an index of this field alone, the rows of one value are in the order of their keys.
    const byField = Object.entries(indexes).find(([, fields]) => fields.length === 1 && fields[0] === field)
    if (byField) return byField[0]
  }
  throw notByThis(name, `ask with index=${ruled}`)
}

export const notAllowed = (permission: string, what: string) =>
  changeError('not-allowed', `The permission \`${permission}\` is needed for ${what}.`)

const notByThis = (name: string, instead: string) =>
  changeError(
    'not-allowed',
    `The permission \`read\` is needed to read table "${name}" in this order: without it, ${instead}.`,
  )

const singleKeysOnly = (name: string) =>
  changeError(
    'not-allowed',
    `The permission \`read\` is needed to scan or watch table "${name}": without it, its rows can only be ` +
      'read one by one, by key.',
  )
