import type { App, Query, ReadOptions } from '../app/index.ts'
import { orAfter } from '../clock.ts'
import { retryError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import type { RowHistory } from '../query/history.ts'
import type { Reader } from '../query/reader.ts'
import { rowOf, rowsOf } from '../query/rows.ts'
import type { Story } from '../query/story.ts'
import { mainRealm } from '../sandbox/realm.ts'
import type { Storage } from '../storage/storage.ts'
import type { Views } from '../view/views.ts'
import type { HistoryOptions, RowScanOptions, StoryOptions } from './engine.ts'
import { copyState, type StateCopy } from './state-copy.ts'

/** The state that reads are answered from. */
export interface ReadsHost {
  readonly storage: Storage
  /** Undefined: there are none yet. */
  readonly views: Views | undefined
  /** A view answers once it has folded all that the generation has applied, within so many milliseconds. */
  readonly foldsWithinMs?: number
  readonly live: Generation
  /** The live generation, once it has caught up. */
  settled(): Promise<Generation>
  /**
   * Waits until the request of a token, and all events that follow from it, are applied.
   * @throws HenceError `token-unknown` (change)
   */
  completed(token: string): Promise<void>
}

/** Reads of the live generation and of the views beside it. */
export class Reads<A extends App> {
  readonly #host: ReadsHost
  /** The app with the views as they answer, for the app and the switches that it was made of. */
  #withViews: { readonly app: App; readonly of: App; readonly switches: number } | undefined

  constructor(host: ReadsHost) {
    this.#host = host
  }

  get app(): A {
    const { app: of } = this.#host.live.program
    const { views } = this.#host
    if (!views?.tables.size) return of as A
    const { tables, switches } = views
    if (this.#withViews?.of !== of || this.#withViews.switches !== switches) {
      const app = { ...of, tables: new Map([...of.tables, ...tables]) }
      this.#withViews = { app, of, switches }
    }
    return this.#withViews.app as A
  }

  async get(
    table: string,
    key: readonly (string | number)[],
    { after, at }: ReadOptions = {},
  ): Promise<never> {
    const { live, view } = await this.#at(table, after)
    if (at !== undefined) return this.#read((reader) => reader.past.get(table, key, at)) as Promise<never>
    if (view === undefined) return live.reader.get(table, key) as never
    const row = rowOf(view.table, key)
    return (row && mainRealm.seal(row)) as never
  }

  async scan(table: string, query: Query = {}, { after, at, until }: RowScanOptions = {}): Promise<never> {
    const { live, view } = await this.#at(table, after)
    if (at !== undefined)
      return this.#read((reader) => reader.past.scan(table, query, at, until as never)) as Promise<never>
    if (view === undefined) return live.reader.scan(table, query, until) as never
    return rowsOf(view.table, query, until, (row) => mainRealm.seal(row)) as never
  }

  /** The live generation, once it has applied what a read must see; and the view, once it has folded that. */
  async #at(table: string, after: ReadOptions['after']) {
    const { views, foldsWithinMs } = this.#host
    for (const token of [after ?? []].flat()) await this.#host.completed(token)
    const live = await this.#host.settled()
    if (!views?.has(table)) return { live }
    const isAll = foldsWithinMs !== undefined || after !== undefined
    const reading = views.read(table, isAll ? [...live.processor.positions] : undefined)
    const view = await (foldsWithinMs === undefined ? reading : orAfter(reading, foldsWithinMs))
    if (view === undefined) throw lagging(table, foldsWithinMs!)
    return { live, view }
  }

  async copyState(): Promise<StateCopy> {
    return copyState(this.#host.storage, this.#host.live)
  }

  async story(
    requestId: string,
    { principal = '', bytesMax }: StoryOptions = {},
  ): Promise<Story | undefined> {
    return this.#read((reader) => reader.story(requestId, principal, bytesMax))
  }

  async history(
    table: string,
    key: readonly (string | number)[],
    { before, limit = 100 }: HistoryOptions = {},
  ): Promise<RowHistory> {
    return this.#read((reader) => reader.history(table, key, before, limit))
  }

  /** For readings that end in a later turn of the event loop. */
  async #read<T>(read: (reader: Reader) => Promise<T>): Promise<T> {
    for (;;) {
      const { reader } = await this.#host.settled()
      try {
        return await read(reader)
      } catch (error) {
        // Another generation became live, or this one started over, and what was read was closed.
        if (reader === this.#host.live.reader) throw error
      }
    }
  }
}

const lagging = (view: string, ms: number) =>
  retryError(
    'after-too-late',
    `The view ${JSON.stringify(view)} did not fold all derived records within ${ms} ms. Read again.`,
  )
