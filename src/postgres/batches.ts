import type { App, KeyPart } from '../app/index.ts'
import type { Engine } from '../engine/engine.ts'
import type { Changes } from '../query/reader.ts'
import { encodeKey } from '../state/keys.ts'

/** A row as it is now. */
export interface MirroredRow {
  readonly key: readonly KeyPart[]
  /** JSON text; undefined: there is none. */
  readonly json: string | undefined
}

/** What has changed since the batch before. */
export interface Batch {
  /** What has been seen when this is taken over. */
  readonly position: string
  /** By the name of the table, the last state of each row. */
  readonly rows: ReadonlyMap<string, readonly MirroredRow[]>
  readonly isEmpty: boolean
  /** Whether this is all that the engine has applied. */
  readonly isAll: boolean
  /** Whether no more will come: the engine closes, or the reading was ended. */
  readonly isLast: boolean
}

const recordsMax = 2_000
const charactersMax = 8 * 1024 * 1024

/** Gathers the changes of some tables into batches, as many at a time as are there. */
export class Batches {
  readonly #engine: Engine<App>
  readonly #tables: ReadonlySet<string>
  readonly #changes: AsyncIterator<Changes>
  readonly #ending = new AbortController()
  #next: Promise<IteratorResult<Changes>>
  #position: string
  #isWaiting = false

  constructor(engine: Engine<App>, from: string, tables: ReadonlySet<string>) {
    this.#engine = engine
    this.#tables = tables
    this.#position = from
    this.#changes = engine.changes({ from, signal: this.#ending.signal })[Symbol.asyncIterator]()
    this.#next = this.#ask()
  }

  /**
   * What is there; waits for a change first when it is to, else the batch may be empty.
   * @throws HenceError `position-unknown` (change)
   */
  async take(wait: boolean): Promise<Batch> {
    const rows = new Map<string, Map<string, MirroredRow>>()
    let records = 0
    let characters = 0
    let isAll = false
    let item = await (wait ? this.#wait() : orNothing(this.#next))
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
      item = await orNothing(this.#next)
    }
    if (item === undefined) {
      isAll = true
      // The records behind the last one that changed a row changed none.
      this.#position = this.#engine.position()
    }
    return {
      position: this.#position,
      rows: new Map([...rows].map(([table, ofTable]) => [table, [...ofTable.values()]])),
      isEmpty: records === 0,
      isAll,
      isLast: item?.done ?? false,
    }
  }

  /** Whether it has given all that there is, and waits for more. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  /** Whether no more will come. */
  async hasEnded(): Promise<boolean> {
    const next = await orNothing(this.#next.catch(() => undefined))
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
    // Nobody may be listening any more when it fails.
    next.catch(() => {})
    return next
  }
}

/**
 * What a promise gives, if it is there; undefined when it would have to be waited for. A reading of changes gives all that
 * the engine has applied without waiting for anything, so it is always there within the turn.
 */
function orNothing<T>(promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([promise, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))])
}
