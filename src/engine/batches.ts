import type { App, KeyPart } from '../app/index.ts'
import type { Changes } from '../query/reader.ts'
import { encodeKey } from '../state/keys.ts'
import type { Engine } from './engine.ts'

/** The present state of a row. */
export interface MirroredRow {
  readonly key: readonly KeyPart[]
  /** JSON text; undefined if the row was removed. */
  readonly json: string | undefined
}

/** The rows that have changed since the batch before. */
interface ChangeBatch {
  /** The position in the feed behind this batch. */
  readonly position: string
  /** By table: the last state of each changed row. */
  readonly rows: ReadonlyMap<string, readonly MirroredRow[]>
  readonly isEmpty: boolean
  /** Whether it reaches everything that the engine has applied. */
  readonly isAll: boolean
  /** Whether no batch will follow: the engine closes, or `end` was called. */
  readonly isLast: boolean
}

const recordsMax = 2_000
const charactersMax = 8 * 1024 * 1024

/** Reads the changes of some tables in batches; a batch takes what is available, up to its bounds. */
export class BatchReader {
  readonly #engine: Engine<App>
  readonly #tables: ReadonlySet<string>
  readonly #changes: AsyncIterator<Changes>
  readonly #ending = new AbortController()
  #next: Promise<IteratorResult<Changes>>
  #position: string
  #isWaiting = false

  readonly #view: string | undefined

  /** @param view the view whose changes it reads, instead of those of tables */
  constructor(engine: Engine<App>, from: string, tables: ReadonlySet<string>, view: string | undefined) {
    this.#engine = engine
    this.#tables = tables
    this.#position = from
    this.#view = view
    const following = { from, signal: this.#ending.signal, ...(view !== undefined && { view }) }
    this.#changes = engine.changes(following)[Symbol.asyncIterator]()
    this.#next = this.#ask()
  }

  /** Returns the available changes; with `wait` there is at least one. */
  async take(wait: boolean): Promise<ChangeBatch> {
    const rows = new Map<string, Map<string, MirroredRow>>()
    let records = 0
    let characters = 0
    let isAll = false
    let item = await (wait ? this.#wait() : ifSettled(this.#next))
    while (item !== undefined && !item.done) {
      this.#position = item.value.position
      for (const { table, key, after } of item.value.changes) {
        if (!this.#tables.has(table)) continue
        const json = after === undefined ? undefined : JSON.stringify(after)
        characters += json?.length ?? 0
        const ofTable = rows.get(table) ?? new Map<string, MirroredRow>()
        rows.set(table, ofTable)
        ofTable.set(encodeKey(key), { key, json })
      }
      this.#next = this.#ask()
      if (++records >= recordsMax || characters >= charactersMax) break
      item = await ifSettled(this.#next)
    }
    if (item === undefined) {
      isAll = true
      // The records behind the last change have changed no row.
      if (this.#view === undefined) this.#position = this.#engine.position()
    }
    return {
      position: this.#position,
      rows: new Map([...rows].map(([table, ofTable]) => [table, [...ofTable.values()]])),
      isEmpty: records === 0,
      isAll,
      isLast: item?.done ?? false,
    }
  }

  /** Whether every available change was returned, and `take` waits for more. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  /** Whether the feed has ended. */
  async hasEnded(): Promise<boolean> {
    const next = await ifSettled(this.#next.catch(() => undefined))
    return next?.done ?? false
  }

  end(): void {
    this.#ending.abort()
  }

  async #wait(): Promise<IteratorResult<Changes>> {
    this.#isWaiting = true
    try {
      return await this.#next
    } finally {
      this.#isWaiting = false
    }
  }

  #ask(): Promise<IteratorResult<Changes>> {
    const next = this.#changes.next()
    // It may reject after the last `take`.
    next.catch(() => {})
    return next
  }
}

/** Resolves as the promise does if it settles in this turn, as for all that is applied; or to undefined. */
function ifSettled<T>(promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([promise, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))])
}

const rowsPerRead = 500

/** Reads all rows of a table or a view, page by page, while they may change. */
export async function* pagesOf(engine: Engine<App>, table: string): AsyncGenerator<MirroredRow[]> {
  let last: readonly KeyPart[] | undefined
  for (;;) {
    const query = { limit: rowsPerRead, ...(last && { from: last }) }
    const page = await engine.scan(table, query)
    // A page begins with the last row of the page before, if that still exists.
    const isAgain = last !== undefined && page[0]?.key.every((part, i) => part === last![i])
    yield page.slice(isAgain ? 1 : 0).map(({ key, value }) => ({ key, json: JSON.stringify(value) }))
    if (page.length < rowsPerRead) return
    last = page.at(-1)!.key
  }
}
