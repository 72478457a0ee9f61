import { getHeapStatistics } from 'node:v8'
import type { KeyPart, View } from '../app/index.ts'
import type { Fold, Folds } from '../app/view.ts'
import { changeError, type HenceError, operatorError, shown, unended } from '../failure.ts'
import { deathsMax } from '../generation/derive-tail.ts'
import type { TracedDerivation } from '../processor/trace.ts'
import type { ViewProgram } from '../sandbox/program.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import type { Collection } from '../state/cells.ts'
import { encodeKey } from '../state/keys.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { collectionsOf, TableState } from '../state/table.ts'
import type { RunFile } from '../storage/run-file.ts'
import type { StateName } from '../storage/states.ts'
import type { Storage } from '../storage/storage.ts'
import { RecentChanges } from './recent.ts'
import type { SqlViews } from './sql.ts'

/** The messages of a record for views, in order. */
export interface FoldedRecord {
  readonly partition: number
  readonly offset: number
  readonly messages: readonly FoldMessage[]
}

export interface FoldMessage {
  readonly kind: keyof Folds
  /** The name of the table, request or event. */
  readonly name: string
  /** A value that JSON keeps. */
  readonly message: unknown
  /** It is of this one. */
  readonly derivation: TracedDerivation
}

/** The part of the store of a view that says what its rows were folded from. */
interface SavedPosition {
  readonly logId: string
  /** By partition: the offset of the next record. */
  readonly positions: readonly number[]
  /** See `RecentChanges`. */
  readonly changedAt?: readonly number[] | undefined
}

/** Other code of a view, and another generation, has rows of its own. */
export interface ViewVersion {
  readonly name: string
  /** The hash of its module. */
  readonly version: string
  /** The generation whose derivation it follows. */
  readonly generation: number
}

/** Its entry in the manifest; see `manifest.ts`. */
export interface ManifestEntry extends ViewVersion {
  /** Why the view has stopped. */
  readonly failed?: string
  /** How many bytes of heap the processes had that it ended: it is folded again by other code, or with more. */
  readonly deadly?: number | undefined
  /** The name of its rows in SQLite, if they are there. */
  readonly sql?: string
}

export function storeOf({ name, version, generation }: ViewVersion): Extract<StateName, string> {
  return `view.${name}.${version.slice(0, 12)}.${generation}`
}

/** Where rows are folded from. */
interface FoldedFrom {
  /** Of the log. */
  readonly id: string
  readonly notesRecords?: boolean | undefined
  readonly run?: RunFile | undefined
}

const heapBytes = () => getHeapStatistics().heap_size_limit

/** The collection of a fold that notes records. */
const changedBy = 'changedBy'
/** How long a run of folds should hold up the event loop, in milliseconds. */
const runMs = 2
const recordsMax = 256
/** With so many checkpoints' rows in memory, folding waits for the save under way. */
const fullAt = 4

/**
 * The rows of one version of a view, and the code that folds them. A fold that throws or does not end stops
 * its view alone: nothing of the record that it failed at is kept.
 */
export class ViewFold implements ViewVersion {
  readonly name: string
  readonly version: string
  readonly generation: number
  readonly view: View
  readonly table: TableState
  /** How many records were derived for it so far. */
  derived = 0
  /** Why it has stopped. */
  failure: HenceError | undefined
  /** Makes the error of one that has stopped. */
  stopped = stopped
  /** Called when its rows could not be saved. */
  saveFailed = () => {}
  readonly recent: RecentChanges
  #positions: readonly number[] | undefined
  readonly #program: ViewProgram
  readonly #logId: string
  readonly #state: State
  readonly #saved: Collection<SavedPosition>
  /** By the key of a row: the record that changed it last; kept for a comparison only. */
  readonly #changedBy: Collection<string> | undefined
  readonly #rows: object
  readonly #run: RunFile | undefined
  /** A process died while it folded a run of records: they are folded one by one, so that the record is known. */
  readonly #isSuspect: boolean
  #runRecords: number
  /** See `ManifestEntry`. */
  #deadly: number | undefined
  #saving: Promise<void> | undefined

  private constructor(
    of: ViewVersion,
    program: ViewProgram,
    state: State,
    { id: logId, notesRecords = false, run }: FoldedFrom,
  ) {
    this.name = of.name
    this.version = of.version
    this.generation = of.generation
    this.view = program.views.get(of.name)!
    this.#program = program
    this.#logId = logId
    this.#run = run
    this.#isSuspect = run?.suspects(storeOf(of)) === true
    this.#runRecords = this.#isSuspect ? 1 : 16
    this.#state = state
    const json = { encode: JSON.stringify, decode: JSON.parse }
    this.#saved = state.collection('meta', json, false)
    this.#changedBy = notesRecords ? state.collection(changedBy, json, false) : undefined
    this.table = new TableState(state, this.view, {
      encode: (row) => JSON.stringify(row),
      decode: (text) => program.realm.parseFrozen(text),
    })
    this.#rows = rowsFor(this.table, program)
    const { changedAt } = this.#saved.get('position') ?? {}
    this.recent = new RecentChanges(this.table, `${of.version.slice(0, 12)}.${of.generation}`, changedAt)
  }

  /** By partition: the offset of the next record; undefined while the log is derived again for it. */
  get positions(): readonly number[] | undefined {
    return this.#positions
  }

  set positions(positions: readonly number[]) {
    this.#positions = positions
    this.recent.reached(positions)
  }

  /** Opens what was saved of a version of a view; its positions are undefined if there is nothing of use. */
  static async open(
    from: {
      readonly storage: Pick<Storage, 'log' | 'openStore' | 'folding'>
      readonly sql?: SqlViews | undefined
      /** Whether it notes which record changed each row last. */
      readonly notesRecords?: boolean
    },
    of: ViewVersion,
    program: ViewProgram,
  ): Promise<ViewFold> {
    const { storage, sql, notesRecords } = from
    const view = program.views.get(of.name)!
    const { id, partitions } = storage.log
    const collections = ['meta', ...(notesRecords ? [changedBy] : []), ...collectionsOf([view])]
    const open = async (anew: boolean) => {
      const store = await (view.sql === undefined || sql === undefined
        ? storage.openStore(storeOf(of), collections, anew)
        : sql.store(storeOf(of), view, anew))
      return new ViewFold(of, program, new State(store), { id, notesRecords, run: storage.folding })
    }
    const fold = await open(false)
    const saved = fold.#saved.get('position')
    if (saved?.logId === id && saved.positions.length === partitions) {
      fold.positions = saved.positions
      return fold
    }
    await fold.close()
    return open(true)
  }

  /** With no rows yet, and none that are kept. */
  static inMemory(program: ViewProgram, name: string): ViewFold {
    const of = { name, version: program.version, generation: 0 }
    return new ViewFold(of, program, new State(memoryStore()), { id: '' })
  }

  get saved(): ManifestEntry {
    const { name, version, generation, failure, view } = this
    const failed = failure && { failed: failure.message, deadly: this.#deadly }
    return { name, version, generation, ...failed, ...(view.sql && { sql: view.sql }) }
  }

  /** Stops it as an earlier process has, which it would end again. */
  keepStopped(entries: readonly ManifestEntry[]): void {
    const { failed, deadly = 0 } = entries.find((each) => storeOf(each) === storeOf(this)) ?? {}
    if (failed === undefined || deadly < heapBytes()) return
    this.failure = operatorError('view-failed', failed)
    this.#deadly = deadly
  }

  /** The record that changed a row last, if that is noted. */
  recordOf(key: string): string | undefined {
    return this.#changedBy?.get(key)
  }

  takes(kind: keyof Folds, name?: string): boolean {
    const folds = this.view.folds[kind]
    return name === undefined ? Object.keys(folds).length > 0 : Object.hasOwn(folds, name)
  }

  /**
   * Folds records. The caller then sets `positions`.
   * @param ms how long a run may take
   * @param rest called after each run
   */
  async fold(
    records: readonly FoldedRecord[],
    ms: number,
    rest: () => Promise<void> | undefined,
  ): Promise<void> {
    const { deriving } = this.#program
    let done = 0
    while (done < records.length && this.failure === undefined) {
      const end = Math.min(records.length, done + this.#runRecords)
      let tookMs: number | undefined
      try {
        tookMs = await withinLimit(ms, () => {
          this.#begins(records[done]!)
          for (; done < end; done++) this.foldOne(records[done]!)
        })
        if (tookMs === undefined) throw changeError('view-failed', `it did not end in ${ms} ms`)
      } catch (error) {
        // After an interruption nothing of its state in memory may be used.
        const { partition, offset } = records[done]!
        this.failure = this.stopped(this.name, `at record ${offset} of partition ${partition}`, error)
        return
      } finally {
        deriving.active = false
        this.#run?.ended()
      }
      if (tookMs > 2 * runMs) this.#runRecords = Math.max(1, this.#runRecords >> 1)
      else if (tookMs < runMs && !this.#isSuspect)
        this.#runRecords = Math.min(recordsMax, this.#runRecords * 2)
      await rest()
    }
  }

  /** Notes where a run begins, since it may end the process. */
  #begins({ partition, offset }: FoldedRecord): void {
    const begun = this.#run?.begins({ partition, offset, between: storeOf(this) }) ?? 0
    if (begun <= deathsMax) return
    this.#deadly = heapBytes()
    const how = `it ended ${deathsMax} processes, for example because it filled the heap`
    throw changeError('view-failed', how)
  }

  /** Folds a record, however long it takes; if it throws, nothing more may be folded. */
  foldOne({ partition, offset, messages }: FoldedRecord): void {
    const { deriving, realm } = this.#program
    for (const { kind, name, message } of messages) {
      const fold: Fold | undefined = this.takes(kind, name) ? this.view.folds[kind][name] : undefined
      if (fold === undefined) continue
      const sealed = realm.seal(message)
      deriving.slip = undefined
      deriving.active = true
      assertSynchronous(fold(this.#rows, sealed))
      deriving.active = false
      if (deriving.slip !== undefined) throw deriving.slip
    }
    const rows = `t:${this.name}`
    const changes = () => this.#state.changes(0, (name) => name === rows)
    if (this.recent.isKept) this.recent.add(partition, offset, changes())
    if (this.#changedBy !== undefined)
      for (const { key } of changes()) this.#changedBy.set(key, `${partition}:${offset}`)
    this.#state.commit()
  }

  /** The save under way. */
  get saving(): Promise<void> | undefined {
    return this.#saving
  }

  /** Begins a save if so many rows have changed, one at a time; returns what to wait for, usually nothing. */
  saveIfDue(rows: number): Promise<void> | undefined {
    const dirty = this.#state.checkpointsDirty(rows)
    if (this.failure !== undefined || dirty < 1) return undefined
    if (this.#saving === undefined) void this.save()
    return dirty > fullAt ? this.#saving : undefined
  }

  /** Saves rows and positions together, after a save under way; fold nothing until it has begun. */
  save(): Promise<void> {
    const saving = this.#save(this.#saving).finally(() => {
      if (this.#saving === saving) this.#saving = undefined
    })
    this.#saving = saving
    return saving
  }

  async #save(before: Promise<void> | undefined): Promise<void> {
    if (before) await before
    if (this.failure !== undefined) return
    const { positions } = this
    if (positions !== undefined) {
      const { changedAt } = this.recent
      this.#saved.set('position', { logId: this.#logId, positions, changedAt })
    }
    this.#state.commit()
    try {
      await this.#state.checkpoint()
    } catch (error) {
      this.failure = this.stopped(this.name, 'when its rows were saved', error)
      this.saveFailed()
    }
  }

  async close(): Promise<void> {
    this.recent.end()
    await this.#saving
    await this.#state.close()
  }
}

/** The rows as folds reach them; the guards of the realm are off while Hence's own code runs. */
function rowsFor(table: TableState, { realm, deriving }: ViewProgram): object {
  const outside = <T>(act: () => T): T => {
    deriving.active = false
    try {
      return act()
    } finally {
      deriving.active = true
    }
  }
  const keyOf = (key: readonly KeyPart[]) => {
    if (key.length === table.kinds.length && key.every((part, i) => typeof part === table.kinds[i]))
      return encodeKey(key)
    throw changeError(
      'key-invalid',
      `A row of "${table.name}" is named by the list [${table.kinds.join(', ')}], not by ${JSON.stringify(key)}.`,
    )
  }
  return Object.freeze({
    get: (...key: KeyPart[]) => outside(() => table.get(keyOf(key))),
    put: (...keyThenValue: unknown[]) => {
      const row = realm.seal(keyThenValue.pop())
      if (typeof row !== 'object' || row === null)
        throw changeError('row-invalid', `A row of "${table.name}" must be an object or a list.`)
      outside(() => table.put(keyOf(keyThenValue as KeyPart[]), row))
    },
    delete: (...key: KeyPart[]) => outside(() => table.delete(keyOf(key))),
    scan: (query = {}) => realm.seal(outside(() => table.scan(query))),
  })
}

/** @param where in the words of a message */
export function stopped(name: string, where: string, error: unknown): HenceError {
  return operatorError(
    'view-failed',
    `The view "${name}" stopped ${where}: ${thrownIn(error)}. Other views and requests go on. Start with mended ` +
      'code: the view is then derived anew.',
    { cause: error },
  )
}

/** The text of what a fold threw, for a message. */
export function thrownIn(error: unknown): string {
  try {
    return shown(unended(String((error as Error)?.message ?? error)), 1_000)
  } catch {
    // A thrown value may refuse even to be read.
    return 'it threw something that has no text'
  }
}
