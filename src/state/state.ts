import { HenceError } from '../failure.ts'
import { CellMap } from './cell-map.ts'
import { Overlay } from './overlay.ts'
import type { CollectionChanges, KeyRange, Store } from './store.ts'

/** How the values of a collection are written as text, or as the UTF-8 bytes of a text. */
export interface Codec<V> {
  encode(value: V): string | Buffer
  decode(text: string): V
}

/** A named, ordered map from keys (see `keys.ts`) to values. */
export interface Collection<V> {
  /** The value as it was set, or decoded anew; the same object need not come twice. */
  get(key: string): V | undefined
  set(key: string, value: V): void
  delete(key: string): void
  /**
   * Goes through a range in order. Nothing of the state may change, and control may not go back to the event
   * loop, until it is used up or left; so collect first, then change.
   */
  range(range?: KeyRange): Iterable<[key: string, value: V]>
}

/** What became of one key. */
export interface StateChange {
  readonly collection: string
  readonly key: string
  /** Undefined when there was no value. */
  readonly before: unknown
  /** Undefined when there is no value any more. */
  readonly after: unknown
}

/**
 * All derived state: collections over a store, read and changed in memory, and saved from time to time.
 *
 *   cells     what is known of keys: changed and not saved yet, or lately read or saved
 *   dirty     the cells that changed since the last checkpoint began
 *   saving    the cells that the checkpoint under way writes, or the last one failed to
 *   store     the last checkpoint that is complete
 *
 * A value that is not saved is always in memory, so it makes no difference to a read whether a checkpoint is
 * under way. The other cells are a cache with a bound on its bytes.
 *
 * Changes since the last `commit` can be undone.
 */
export class State {
  readonly #store: Store
  readonly #collections = new Map<string, Cells<unknown>>()
  readonly #shared: Shared
  #writing: Promise<void> | undefined
  /** How often changes were asked for. */
  #rounds = 0

  /** @param cacheBytesMax about how many bytes of values that the store has too are kept in memory */
  constructor(store: Store, cacheBytesMax = 64 * 1024 * 1024) {
    this.#store = store
    this.#shared = { undo: new UndoLog(), checkpoint: 1, saved: 0, trim: () => this.#trim(cacheBytesMax) }
  }

  /**
   * Makes a collection available; each name once, and it must be one the store was opened with.
   * @param kept whether values are kept in memory after they were read or saved, as far as there is room
   */
  collection<V>(name: string, codec: Codec<V>, kept: boolean): Collection<V> {
    if (this.#collections.has(name)) throw new Error(`The collection "${name}" is in use already.`)
    const cells = new Cells<V>(name, codec, this.#store, this.#shared, kept)
    this.#collections.set(name, cells as Cells<unknown>)
    return cells
  }

  /** The present position in the undo log. */
  mark(): number {
    return this.#shared.undo.length
  }

  /** Puts every collection back to how it was at a mark. */
  undo(mark: number): void {
    const { undo } = this.#shared
    while (undo.length > mark) {
      undo.length--
      undo.cells[undo.length]!.value = undo.before[undo.length]
    }
  }

  /**
   * What became of the keys that were changed since a mark: each once, in the order in which they were first
   * touched. A key that had no value at the mark and has none now is left out.
   */
  changes(mark: number): StateChange[] {
    const { undo } = this.#shared
    const found: StateChange[] = []
    const round = ++this.#rounds
    for (let i = mark; i < undo.length; i++) {
      const cell = undo.cells[i]!
      if (cell.round === round) continue
      cell.round = round
      const { key, home } = cell
      const before = home.resolve(key, undo.before[i])
      const after = home.resolve(key, cell.value)
      if (before !== undefined || after !== undefined)
        found.push({ collection: home.name, key, before, after })
    }
    return found
  }

  /** Forgets how to undo what was changed; to be called once for each record that was applied. */
  commit(): void {
    this.#shared.undo.clear()
  }

  /** How many changed keys wait for the next checkpoint. */
  get dirtyCount(): number {
    const failed = this.#writing === undefined
    let count = 0
    for (const cells of this.#collections.values()) count += cells.dirtyCount(failed)
    return count
  }

  /**
   * Saves all that was changed up to the moment of the call, in one atomic write; changes may go on in the
   * meantime. One at a time, and between two records: nothing may be left to undo.
   *
   * @throws HenceError `checkpoint-failed` (retry); then nothing is lost, and the next checkpoint takes what
   *   this one should have saved
   */
  async checkpoint(): Promise<void> {
    const shared = this.#shared
    if (shared.undo.length > 0) throw new Error('A checkpoint was asked for in the midst of a record.')
    if (this.#writing) throw new Error('A checkpoint was asked for while another one is under way.')
    const number = shared.checkpoint++
    for (const cells of this.#collections.values()) cells.beginSaving(number)
    try {
      this.#writing = this.#store.write(this.#saving())
      await this.#writing
    } catch (error) {
      throw new HenceError(
        'checkpoint-failed',
        'retry',
        `The derived state could not be saved: ${error instanceof Error ? error.message : error}. ` +
          'Nothing is lost, and the next checkpoint saves it. Does the disk have space left?',
        { cause: error },
      )
    } finally {
      this.#writing = undefined
    }
    shared.saved = number
    for (const cells of this.#collections.values()) cells.endSaving()
    shared.trim()
  }

  /** Waits for a checkpoint under way, then closes the store. What was changed since is in the log alone. */
  async close(): Promise<void> {
    await this.#writing?.catch(() => {})
    await this.#store.close()
  }

  *#saving(): Iterable<CollectionChanges> {
    for (const cells of this.#collections.values()) {
      if (cells.saving.size > 0) yield [cells.name, cells.encoded()]
    }
  }

  #trim(bytesMax: number): void {
    let bytes = 0
    for (const cells of this.#collections.values()) bytes += cells.bytes
    if (bytes <= bytesMax) return
    for (const cells of this.#collections.values()) cells.trim((bytesMax / bytes) * 0.9)
  }
}

/** What the collections of a state have in common. */
interface Shared {
  readonly undo: UndoLog
  /** The number of the checkpoint that will save what changes now. */
  checkpoint: number
  /** The last one that was complete. */
  saved: number
  /** Lets go of values that the store has, if there are too many. */
  trim(): void
}

/** What is known of a key. */
interface Cell<V> {
  readonly key: string
  readonly home: Cells<V>
  value: V | Absence
  /** The number of the checkpoint that saves it, or saved it. */
  checkpoint: number
  /** The last asking for changes that it was told in. */
  round: number
  /** Whether it was of use since it was last thought of letting it go. */
  used: boolean
}

/** `deleted`: there is no value. `unread`: what the store has, whatever that is. */
type Absence = typeof deleted | typeof unread
const deleted = Symbol('deleted')
const unread = Symbol('unread')

/** Changes in their order: the cell, and the value it had before. */
class UndoLog {
  readonly cells: (Cell<unknown> | undefined)[] = []
  readonly before: unknown[] = []
  length = 0

  clear(): void {
    this.length = 0
    // Slots are used again, so that their growth costs nothing; but a record of unusual size must not keep
    // its rows in memory for ever.
    if (this.cells.length > 1_000) this.cells.length = this.before.length = 0
  }
}

/** One entry in so many is encoded when it is set or read, to know how large they are. */
const sampled = 64
/** What a cell takes besides the text of its key and value. */
const cellBytes = 200

class Cells<V> implements Collection<V> {
  readonly name: string
  readonly #codec: Codec<V>
  readonly #store: Store
  readonly #shared: Shared
  readonly #kept: boolean
  readonly #cells = new CellMap<Cell<V>>()
  #dirty = new Overlay<Cell<V>>()
  saving = new Overlay<Cell<V>>()
  /** No key of the store is greater; most new keys are, such as ids that begin with the time. */
  #highest = ''
  #lastKey: string | undefined
  #lastCell: Cell<V> | undefined
  #sets = 0
  #loads = 0
  #bytesPerEntry = 0

  constructor(name: string, codec: Codec<V>, store: Store, shared: Shared, kept: boolean) {
    this.name = name
    this.#codec = codec
    this.#store = store
    this.#shared = shared
    this.#kept = kept
    for (const [key] of store.range(name, { reverse: true })) {
      this.#highest = key
      break
    }
  }

  dirtyCount(failed: boolean): number {
    return this.#dirty.size + (failed ? this.saving.size : 0)
  }

  /** About how many bytes of memory the cells take that could be let go of. */
  get bytes(): number {
    return this.#savedCount * (cellBytes + 2 * this.#bytesPerEntry)
  }

  /** How many cells are neither changed nor being saved. */
  get #savedCount(): number {
    return Math.max(0, this.#cells.size - this.#dirty.size - this.saving.size)
  }

  get(key: string): V | undefined {
    const cell = this.#find(key)
    if (cell === undefined) return this.#load(key)
    cell.used = true
    const { value } = cell
    return value === deleted || value === unread ? this.resolve(key, value) : (value as V)
  }

  set(key: string, value: V): void {
    this.#change(key, value)
    if (this.#sets++ % sampled === 0) this.#sample(key, this.#codec.encode(value))
  }

  delete(key: string): void {
    this.#change(key, deleted)
  }

  *range(range: KeyRange = {}): Iterable<[string, V]> {
    const { from, reverse } = range
    const dirtyCells = this.#dirty.range(range)
    const savingCells = this.saving.range(range)
    const stored =
      from !== undefined && from > this.#highest
        ? noEntries
        : this.#store.range(this.name, range)[Symbol.iterator]()
    try {
      let a = dirtyCells.next().value
      let b = savingCells.next().value
      let c: [string, string] | undefined = stored.next().value
      for (;;) {
        let key = a?.key
        if (b !== undefined && (key === undefined || b.key < key !== !!reverse)) key = b.key
        if (c !== undefined && (key === undefined || c[0] < key !== !!reverse)) key = c[0]
        if (key === undefined) return
        let value: V | Absence = unread
        // A cell that changed again while it is being saved is in both, and it is the same.
        if (key === a?.key) {
          value = a.value
          a = dirtyCells.next().value
        }
        if (key === b?.key) {
          value = b.value
          b = savingCells.next().value
        }
        if (key === c?.[0]) {
          if (value === unread) value = this.#known(key) ?? this.#decode(key, c[1])
          c = stored.next().value
        }
        if (value !== deleted && value !== unread) yield [key, value as V]
      }
    } finally {
      stored.return?.()
    }
  }

  /** The value that a key has when its cell holds this. */
  resolve(key: string, held: unknown): V | undefined {
    if (held === deleted) return undefined
    return held === unread ? this.#read(key) : (held as V)
  }

  /** Takes what changed for the checkpoint with this number, and what the last one failed to save. */
  beginSaving(number: number): void {
    const { saved } = this.#shared
    for (const cell of this.saving.cells()) {
      if (cell.checkpoint > saved && cell.checkpoint < number) {
        cell.checkpoint = number
        this.#dirty.add(cell)
      }
    }
    this.saving = this.#dirty
    this.#dirty = new Overlay<Cell<V>>()
    for (const { key } of this.saving.cells()) if (key > this.#highest) this.#highest = key
  }

  /** The store has it all now. */
  endSaving(): void {
    const { saved } = this.#shared
    for (const cell of this.saving.cells()) {
      const useless = !this.#kept || cell.value === deleted || cell.value === unread
      if (useless && cell.checkpoint <= saved) this.#drop(cell)
    }
    this.saving = new Overlay<Cell<V>>()
  }

  *encoded(): Iterable<[string, string | Buffer | undefined]> {
    for (const { key, value } of this.saving.cells()) {
      if (value === unread) continue
      yield [key, value === deleted ? undefined : this.#codec.encode(value as V)]
    }
  }

  /**
   * Lets go of saved cells until this part of all is left, those first that were of no use for longest (as
   * near as one bit a cell can tell: the clock algorithm).
   */
  trim(part: number): void {
    const { saved } = this.#shared
    let surplus = this.#savedCount * (1 - part)
    for (let round = 1; round <= 2; round++) {
      for (const cell of this.#cells.all()) {
        if (surplus <= 0) return
        if (cell.checkpoint > saved) continue
        this.#drop(cell)
        if (cell.used) {
          cell.used = false
          this.#keep(cell)
        } else {
          surplus--
        }
      }
    }
  }

  /** The cell of a key; most keys are asked for twice in a row, so that the last answer is kept. */
  #find(key: string): Cell<V> | undefined {
    if (key !== this.#lastKey) {
      this.#lastKey = key
      this.#lastCell = this.#cells.get(key)
    }
    return this.#lastCell
  }

  #keep(cell: Cell<V>): void {
    this.#cells.add(cell)
    this.#lastKey = cell.key
    this.#lastCell = cell
  }

  #drop(cell: Cell<V>): void {
    this.#cells.remove(cell)
    this.#lastKey = undefined
    this.#lastCell = undefined
  }

  #change(key: string, value: V | typeof deleted): void {
    const { undo, checkpoint } = this.#shared
    let cell = this.#find(key)
    if (cell === undefined) {
      cell = { key, home: this, value: unread, checkpoint: 0, round: 0, used: true }
      this.#keep(cell)
    }
    if (cell.checkpoint !== checkpoint) {
      cell.checkpoint = checkpoint
      this.#dirty.add(cell)
    }
    undo.cells[undo.length] = cell as Cell<unknown>
    undo.before[undo.length++] = cell.value
    cell.value = value
  }

  /** Reads what the store has, and keeps it. */
  #load(key: string): V | undefined {
    const value = this.#read(key)
    if (value === undefined || !this.#kept) return value
    this.#keep({ key, home: this, value, checkpoint: 0, round: 0, used: false })
    if (this.#loads++ % 1_024 === 0) this.#shared.trim()
    return value
  }

  /** The value of a key whose cell says it. */
  #known(key: string): V | undefined {
    const value = this.#cells.get(key)?.value
    return value === unread || value === deleted ? undefined : (value as V)
  }

  #read(key: string): V | undefined {
    if (key > this.#highest) return undefined
    const text = this.#store.get(this.name, key)
    if (text === undefined) return undefined
    if (this.#loads % sampled === 0) this.#sample(key, text)
    return this.#decode(key, text)
  }

  #decode(key: string, text: string): V {
    try {
      return this.#codec.decode(text)
    } catch (error) {
      throw new HenceError(
        'state-unreadable',
        'operator',
        `The derived state has no value that makes sense for ${JSON.stringify(key)} of "${this.name}": ` +
          `${error instanceof Error ? error.message : error}. It holds nothing that the log does not: stop the ` +
          'process, remove the folder of the state, and start again, and it is derived anew.',
        { cause: error },
      )
    }
  }

  #sample(key: string, text: string | Buffer): void {
    const bytes = key.length + text.length
    this.#bytesPerEntry += (bytes - this.#bytesPerEntry) / (this.#bytesPerEntry === 0 ? 1 : 8)
  }
}

const noEntries: Iterator<[string, string], undefined> = [].values()
