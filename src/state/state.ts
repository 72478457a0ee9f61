import { setImmediate as turn } from 'node:timers/promises'
import { retryError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'
import { Cells, type Codec, type Collection, type Shared, UndoLog } from './cells.ts'
import type { CollectionChanges, Store } from './store.ts'

/** The bytes of changed values after which a checkpoint is due. */
const checkpointBytes = 16 * 1024 * 1024

export interface StateChange {
  readonly collection: string
  readonly key: string
  /** Undefined when the key had no value. */
  readonly before: unknown
  /** Undefined when the key has no value now. */
  readonly after: unknown
}

/**
 * All derived state: collections over a store, read and changed in memory, saved by checkpoints.
 *
 *   cells     known values: changed and not yet saved, or recently read or saved
 *   dirty     cells changed since the last checkpoint began
 *   saving    cells that the checkpoint under way writes, or that the last one failed to write
 *   store     the last completed checkpoint
 *
 * Unsaved values are always in memory, so reads are the same during a checkpoint. The other cells are a cache
 * with a bound on its bytes.
 *
 * Changes since the last `commit` can be undone.
 */
export class State {
  readonly #store: Store
  readonly #collections = new Map<string, Cells<unknown>>()
  readonly #shared: Shared
  #writing: Promise<void> | undefined
  #isAbandoned = false
  /** Keys and bytes of what the checkpoint under way writes, or the last one failed to write. */
  #savingCount = 0
  #savingBytes = 0
  /** The number of calls of `changes`. */
  #rounds = 0

  /** @param cacheBytesMax about how many bytes of saved values to keep in memory */
  constructor(store: Store, cacheBytesMax = 32 * 1024 * 1024) {
    this.#store = store
    this.#shared = {
      undo: new UndoLog(),
      checkpoint: 1,
      saved: 0,
      dirtyCount: 0,
      dirtyBytes: 0,
      trim: () => this.#trim(cacheBytesMax),
    }
  }

  /**
   * Returns a collection; call it once per name, with a name that the store was opened with.
   * @param kept whether to cache values after they were read or saved
   */
  collection<V>(name: string, codec: Codec<V>, kept: boolean): Collection<V> {
    if (this.#collections.has(name)) throw new Error(`The collection "${name}" is already in use.`)
    const cells = new Cells<V>(name, codec, this.#store, this.#shared, kept)
    this.#collections.set(name, cells as Cells<unknown>)
    return cells
  }

  /** The current position in the undo log. */
  mark(): number {
    return this.#shared.undo.length
  }

  /** Undoes all changes since a mark. */
  undo(mark: number): void {
    const { undo } = this.#shared
    while (undo.length > mark) {
      undo.length--
      undo.cells[undo.length]!.value = undo.before[undo.length]
    }
  }

  /**
   * The keys changed since a mark, each once, in the order of their first change. A key that had no value at
   * the mark and has none now is left out.
   * @param isWanted of which collections; the values before are read from the store, which costs time
   */
  changes(mark: number, isWanted: (collection: string) => boolean = () => true): StateChange[] {
    const { undo } = this.#shared
    // With its length, since a list that grows takes room for 17.
    const found: StateChange[] = new Array(undo.length - mark)
    let count = 0
    const round = ++this.#rounds
    for (let i = mark; i < undo.length; i++) {
      const cell = undo.cells[i]!
      if (cell.round === round) continue
      cell.round = round
      const { key, home } = cell
      if (!isWanted(home.name)) continue
      const before = home.resolve(key, undo.before[i])
      const after = home.resolve(key, cell.value)
      if (before !== undefined || after !== undefined)
        found[count++] = { collection: home.name, key, before, after }
    }
    found.length = count
    return found
  }

  /** Clears the undo log; called after each applied record. */
  commit(): void {
    this.#shared.undo.clear()
  }

  /** The number of changed keys that wait for the next checkpoint. */
  get dirtyCount(): number {
    return this.#shared.dirtyCount + (this.#writing === undefined ? this.#savingCount : 0)
  }

  /** About how many bytes of memory the saved values take that are cached. */
  get cacheBytes(): number {
    let bytes = 0
    for (const cells of this.#collections.values()) bytes += cells.bytes
    return bytes
  }

  /** About how many bytes of memory the changed values take. */
  get dirtyBytes(): number {
    return this.#shared.dirtyBytes + this.#savingBytes
  }

  /** How many checkpoints' worth of changes, of so many rows, are in memory; bytes count too. */
  checkpointsDirty(rows: number): number {
    return Math.max(this.dirtyCount / rows, this.dirtyBytes / checkpointBytes)
  }

  /**
   * Saves all changes made before the call in one atomic write; more changes may follow meanwhile. Call it
   * between two records, with an empty undo log, and one at a time.
   *
   * @throws HenceError `checkpoint-failed` (retry); nothing is lost, the next checkpoint saves these changes
   *   too
   */
  async checkpoint(): Promise<void> {
    const shared = this.#shared
    if (shared.undo.length > 0 || this.#isAbandoned)
      throw new Error('A checkpoint began while a record was being applied.')
    if (this.#writing) throw new Error('A checkpoint began while another one is under way.')
    const number = shared.checkpoint++
    this.#savingBytes += shared.dirtyBytes
    shared.dirtyBytes = 0
    for (const cells of this.#collections.values()) cells.beginSaving(number)
    this.#savingCount = shared.dirtyCount
    shared.dirtyCount = 0
    try {
      this.#writing = this.#store.write(this.#saving())
      await this.#writing
    } catch (error) {
      throw retryError(
        'checkpoint-failed',
        `The derived state could not be saved: ${reasonText(error)} Nothing is lost: the next checkpoint saves it.`,
        { cause: error },
      )
    } finally {
      this.#writing = undefined
    }
    // The memory may be in pieces. Of cells that no map finds, for example, `trim` would see no end.
    if (this.#isAbandoned) return
    shared.saved = number
    this.#savingCount = this.#savingBytes = 0
    for (const work of [...this.#collections.values()].map((cells) => cells.endSaving())) {
      for (const _ of work) {
        await turn()
        if (this.#isAbandoned) return
      }
    }
    shared.trim()
  }

  /** Nothing in memory is used from here on. A checkpoint under way still completes in the store. */
  abandon(): void {
    this.#isAbandoned = true
  }

  get isAbandoned(): boolean {
    return this.#isAbandoned
  }

  /** Waits for a checkpoint under way, then closes the store. Unsaved changes can be derived from the log. */
  async close(): Promise<void> {
    await this.#writing?.catch(() => {})
    await this.#store.close()
  }

  *#saving(): Iterable<CollectionChanges> {
    for (const cells of this.#collections.values()) {
      if (cells.isSaving) yield [cells.name, cells.encoded()]
    }
  }

  #trim(bytesMax: number): void {
    const bytes = this.cacheBytes
    if (bytes <= bytesMax) return
    for (const cells of this.#collections.values()) cells.trim((bytesMax / bytes) * 0.9)
  }
}
