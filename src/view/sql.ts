import { closeSync, existsSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import type { View } from '../app/index.ts'
import { quoted } from '../app/name.ts'
import { jsonSchemaOf } from '../app/schema.ts'
import { type HenceError, operatorError } from '../failure.ts'
import { fileFailure, reasonText } from '../file-failure.ts'
import type { Reporter } from '../report.ts'
import { decodeKey } from '../state/keys.ts'
import type { CollectionChanges, KeyRange, Store } from '../state/store.ts'
import { collectionsOf } from '../state/table.ts'
import { closeToOthers } from '../storage/permissions.ts'
import type { StateName } from '../storage/states.ts'

/** Where a data directory keeps the rows of views that SQL reads. */
export const sqlFile = 'state/views.sqlite'
/** Up to this size a start checks the whole file, which takes about a quarter of a second. */
const checkedBytes = 64 * 1024 * 1024
/** How many rows are written in one turn of the event loop. */
const rowsAtOnce = 64

/**
 * Opens the views of a data directory that are in SQLite, for reading, also while an engine writes them. A
 * reader sees all views as of one moment in each transaction: end it soon, since it keeps old pages in the
 * file.
 * @throws HenceError `file-unusable` (operator)
 */
export function openSql(directory: string): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const path = join(directory, sqlFile)
  tryReading(path)
  try {
    return new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
  } catch (error) {
    throw unusable(path, error)
  }
}

/** SQLite does not say why it cannot open a file. */
export function tryReading(path: string): void {
  try {
    const file = openSync(path, 'r')
    try {
      readSync(file, Buffer.alloc(1))
    } finally {
      closeSync(file)
    }
  } catch (error) {
    throw unusable(path, error)
  }
}

function unusable(path: string, cause: unknown): HenceError {
  const message = `${path} cannot be used: ${reasonText(cause)} Look at the disk and the rights.`
  return fileFailure(cause, path) ?? operatorError('file-unusable', message, { cause })
}

/** @throws Error if the database is damaged */
export function checkSql(db: DatabaseSync): DatabaseSync {
  const [found] = db.prepare('PRAGMA quick_check(1)').all()
  if (found!['quick_check'] !== 'ok')
    throw Object.assign(new Error(`${found!['quick_check']}`), { errcode: 11 })
  return db
}

/** Copies the views that are in SQLite into another data directory, as of one moment; see `openSql`. */
export function copySql(from: string, to: string): void {
  const db = openSql(from)
  try {
    db.prepare('VACUUM INTO ?').run(join(to, sqlFile))
  } catch (error) {
    throw unusable(join(from, sqlFile), error)
  } finally {
    db.close()
  }
}

/** The keys of rows of a version of a view whose columns are not what the stored row says. */
export function* wrongColumns(directory: string, name: StateName, view: View): Iterable<string> {
  const kinds = ['string', ...view.parts] as const
  const columns = columnsOf(view)
  const parts = columns.slice(0, kinds.length).map((column, i) => `${column.name} AS part${i}`)
  const same = columns.flatMap(({ name, expression }) => (expression ? `${name} IS (${expression})` : 'true'))
  const db = openSql(directory)
  try {
    const rows = db.prepare(
      `SELECT hence_key, ${parts}, ${same.join(' AND ')} AS same FROM ${tableOf(name, `t:${view.name}`)}`,
    )
    for (const row of rows.iterate()) {
      const key = keyIn(row)
      const isRight = decodeKey(kinds, key).parts.every((part, i) => row[`part${i}`] === part)
      if (!isRight || row['same'] !== 1) yield key
    }
  } finally {
    db.close()
  }
}

/**
 * The rows of views in SQLite. Each version of a view has tables of its own, with a column for each field
 * that SQLite computes from the row; readers find the one that answers by an SQL view of the view's name. A
 * commit does not wait for the disk: after a loss of power rows and position are those of an earlier moment.
 */
export class SqlViews {
  readonly #db: DatabaseSync
  #last: Promise<unknown> = Promise.resolve()

  /** Opens it if a view needs it, or if there is one. */
  static open(directory: string | undefined, isNeeded: boolean, report: Reporter): SqlViews | undefined {
    if (directory === undefined) return undefined
    const path = join(directory, sqlFile)
    return isNeeded || existsSync(path) ? new SqlViews(path, report) : undefined
  }

  private constructor(path: string, report: Reporter) {
    this.#db = openChecked(path, report)
    closeToOthers(path)
  }

  /** Opens the rows of a version of a view. */
  async store(name: StateName, view: View, anew: boolean): Promise<Store> {
    await this.#transaction(() => {
      if (anew) this.#drop(name)
      this.#db.exec(definitionsOf(name, view).join(';'))
    })
    return storeIn(this.#db, name, view, (act) => this.#transaction(act))
  }

  /** Lets SQL find a version of a view under the view's name. */
  answer(name: StateName, view: View): Promise<void> {
    return this.#transaction(() => {
      const columns = columnsOf(view).map((column) => column.name)
      const select = `SELECT ${columns} FROM ${tableOf(name, `t:${view.name}`)}`
      const answering = quoted(view.sql!)
      this.#db.exec(`DROP VIEW IF EXISTS ${answering}; CREATE VIEW ${answering} AS ${select}`)
    })
  }

  drop(name: StateName): Promise<void> {
    return this.#transaction(() => this.#drop(name))
  }

  async close(): Promise<void> {
    await this.#last
    this.#db.close()
  }

  #drop(name: StateName): void {
    const sql = "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND instr(sql, ?)"
    for (const each of this.#db.prepare(sql).all(`"${name} `))
      this.#db.exec(`DROP ${each['type']} ${quoted(`${each['name']}`)}`)
  }

  /** One after another: they may span turns, and there is one connection. */
  #transaction(act: () => Promise<void> | void): Promise<void> {
    const run = async () => {
      this.#db.exec('BEGIN IMMEDIATE')
      try {
        await act()
        this.#db.exec('COMMIT')
      } catch (error) {
        // The error may have ended it.
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
        throw error
      }
    }
    const done = this.#last.then(run)
    this.#last = done.catch(() => {})
    return done
  }
}

function openChecked(path: string, report: Reporter): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const isThere = existsSync(path)
  if (isThere) tryReading(path)
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    if (statSync(path).size <= checkedBytes) checkSql(db)
    return db
  } catch (error) {
    db.close()
    const { errcode = 0, message } = error as Error & { readonly errcode?: number }
    // 11: damaged; 26: no database.
    if (!isThere || ![11, 26].includes(errcode & 0xff)) throw unusable(path, error)
    const text = `The rows of views in ${path} are damaged (${message}). The file is removed, and they are derived again.`
    report({ level: 'alarm', code: 'state-unreadable', message: text })
    for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true })
    return openChecked(path, report)
  }
}

/** A collection is a table of keys and texts. */
function storeIn(
  db: DatabaseSync,
  name: StateName,
  view: View,
  transaction: (act: () => Promise<void>) => Promise<void>,
): Store {
  const gets = new Map<string, ReturnType<DatabaseSync['prepare']>>()
  return {
    get(collection, key) {
      let get = gets.get(collection)
      if (get === undefined) {
        get = db.prepare(`SELECT hence_row FROM ${tableOf(name, collection)} WHERE hence_key = ?`)
        gets.set(collection, get)
      }
      return get.get(bytesOf(key))?.['hence_row'] as string | undefined
    },
    *range(collection, { from, to, reverse }: KeyRange = {}) {
      const bounds = [from === undefined ? [] : 'hence_key >= ?', to === undefined ? [] : 'hence_key < ?']
      const where = ['true', ...bounds.flat()].join(' AND ')
      const select = `SELECT hence_key, hence_row FROM ${tableOf(name, collection)} WHERE ${where}`
      const rows = db.prepare(`${select} ORDER BY hence_key ${reverse ? 'DESC' : 'ASC'}`)
      for (const row of rows.iterate(...[from ?? [], to ?? []].flat().map(bytesOf)))
        yield [keyIn(row), row['hence_row'] as string]
    },
    async write(changes: Iterable<CollectionChanges>) {
      const all = Array.from(changes, ([collection, entries]) => [collection, [...entries]] as const)
      await transaction(async () => {
        let written = 0
        for (const [collection, entries] of all) {
          const table = tableOf(name, collection)
          const kinds = collection === `t:${view.name}` ? (['string', ...view.parts] as const) : []
          const columns = ['hence_key', 'hence_row', ...keyNames(kinds.length)]
          const put = db.prepare(
            `INSERT INTO ${table} (${columns}) VALUES (${columns.map(() => '?')}) ` +
              'ON CONFLICT (hence_key) DO UPDATE SET hence_row = excluded.hence_row',
          )
          const remove = db.prepare(`DELETE FROM ${table} WHERE hence_key = ?`)
          for (const [key, value] of entries) {
            const parts = kinds.length > 0 ? decodeKey(kinds, key).parts : []
            if (value === undefined) remove.run(bytesOf(key))
            else put.run(bytesOf(key), value.toString(), ...parts)
            if (++written % rowsAtOnce === 0) await turn()
          }
        }
      })
    },
    view() {
      throw new Error('The rows of a view in SQLite have no snapshots: SQL reads them.')
    },
    async close() {},
  }
}

const bytesOf = (key: string) => Buffer.from(key, 'latin1')
const keyIn = (row: Readonly<Record<string, unknown>>) =>
  Buffer.from(row['hence_key'] as Uint8Array).toString('latin1')

const tableOf = (name: StateName, collection: string) => quoted(`${name} ${collection}`)

/** `key`, `part1`, …, as in the mirror of a table in PostgreSQL. */
const keyNames = (count: number) => Array.from({ length: count }, (_, i) => (i === 0 ? 'key' : `part${i}`))

function definitionsOf(name: StateName, view: View): string[] {
  const rows = tableOf(name, `t:${view.name}`)
  const columns = columnsOf(view)
  const own = 'hence_key BLOB PRIMARY KEY, hence_row TEXT NOT NULL'
  const tables = ['meta', ...collectionsOf([view])].map((collection) => {
    const more = tableOf(name, collection) === rows ? columns.map(({ definition }) => `, ${definition}`) : []
    return `CREATE TABLE IF NOT EXISTS ${tableOf(name, collection)} (${own}${more.join('')}) STRICT, WITHOUT ROWID`
  })
  const indexes = Object.entries(view.indexes).map(([index, fields]) => {
    const names = fields.map((field) => columns.find((column) => column.field === field)?.name)
    return names.includes(undefined)
      ? ''
      : `CREATE INDEX IF NOT EXISTS ${tableOf(name, `index ${index}`)} ON ${rows} (${names})`
  })
  return [...tables, ...indexes]
}

interface Column {
  readonly name: string
  readonly definition: string
  /** How it is computed of the row, unless it is a part of the key. */
  readonly expression?: string
  readonly field?: string
}

/** The columns of the rows of a view: the parts of its key, then its fields, or the whole value as `value`. */
function columnsOf({ parts, value }: View): Column[] {
  // SQL takes names that differ in case alone for the same.
  const taken = new Set(['hence_key', 'hence_row'])
  const free = (name: string): string => {
    if (taken.has(name.toLowerCase())) return free(`${name}_`)
    taken.add(name.toLowerCase())
    return quoted(name)
  }
  const keys = keyNames(parts.length + 1).map((wanted, i): Column => {
    const name = free(wanted)
    return { name, definition: `${name} ${i > 0 && parts[i - 1] === 'number' ? 'REAL' : 'TEXT'} NOT NULL` }
  })
  const { properties, required = [] } = (jsonSchemaOf(value, 'output') ?? {}) as FieldSchema
  if (properties === undefined)
    return [...keys, { name: 'value', definition: 'value TEXT AS (hence_row)', expression: 'hence_row' }]
  const fields = Object.entries(properties).map(([field, schema]): Column => {
    const name = free(field)
    const path = `$.${JSON.stringify(field)}`.replaceAll("'", "''")
    const expression = `hence_row ->> '${path}'`
    const type = typeOf(schema, required.includes(field))
    return { name, field, expression, definition: `${name} ${type} AS (${expression}) STORED` }
  })
  return [...keys, ...fields]
}

interface FieldSchema {
  readonly type?: string | readonly string[]
  readonly anyOf?: readonly FieldSchema[]
  readonly properties?: Readonly<Record<string, FieldSchema>>
  readonly required?: readonly string[]
}

const types: Readonly<Record<string, string>> = {
  string: 'TEXT',
  integer: 'INTEGER',
  number: 'REAL',
  boolean: 'INTEGER',
  object: 'TEXT',
  array: 'TEXT',
}

/** The type of a column: for example `TEXT NOT NULL`. Objects and lists are JSON. */
function typeOf(schema: FieldSchema, isRequired: boolean): string {
  const kinds = new Set((schema.anyOf ?? [schema]).flatMap(({ type = 'any' }) => type))
  const isNullable = kinds.delete('null') || kinds.has('any') || !isRequired
  const [type, ...others] = new Set([...kinds].map((kind) => types[kind] ?? 'ANY'))
  return `${others.length > 0 ? 'ANY' : type}${isNullable ? '' : ' NOT NULL'}`
}
