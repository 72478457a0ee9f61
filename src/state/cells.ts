import { operatorError } from '../failure.ts'
import { CellMap, hashOf } from './cell-map.ts'
import { Overlay } from './overlay.ts'
import { type Pieces, pieceRows } from './pieces.ts'
import type { KeyRange, Store } from './store.ts'

/** Converts the values of a collection to text, or to the UTF-8 bytes of a text, perhaps `compressed`, and back. */
export interface Codec<V> {
  encode(value: V): string | Buffer
  decode(text: string): V
}

/** A named, ordered map from keys (see `keys.ts`) to values. */
export interface Collection<V> {
  /** The value; two calls need not return the same object. */
  get(key: string): V | undefined
  /** @param bytes about how many bytes of memory the value takes, if that is known */
  set(key: string, value: V, bytes?: number): void
  /** The same for a key that has no value, and that has none in the store either if it was not changed since. */
  add(key: string, value: V, bytes?: number): void
  delete(key: string): void
  /**
   * Deletes a value of the last checkpoint with the next one, for good; it may be read until then.
   * Call it in the order of the keys.
   */
  drop(key: string): void
  /**
   * Iterates over a range in order. Until the iteration ends, the state must not change and control must not
   * return to the event loop; so collect first, then change.
   */
  range(range?: KeyRange): Iterable<[key: string, value: V]>
  /** The same of the last checkpoint, without the changes since, which would have to be sorted. */
  stored(range?: KeyRange): Iterable<[key: string, value: V]>
}

export interface Shared {
  readonly undo: UndoLog
  /** The number of the checkpoint that will save present changes. */
  checkpoint: number
  /** The number of the last completed checkpoint. */
  saved: number
  /**
   * How many keys were changed since the last checkpoint began, and about how many bytes their values take. A
   * dropped key is not counted: it takes little memory, and a checkpoint limits how many it forgets.
   */
  dirtyCount: number
  dirtyBytes: number
  /** Evicts values that the store holds, if there are too many. */
  trim(): void
}

/** The known value of one key. */
interface Cell<V> {
  readonly key: string
  readonly hash: number
  readonly home: Cells<V>
  value: V | Absence
  /** Whether the store may have a value for the key. */
  isStored: boolean
  /** The number of the checkpoint that saves it, or saved it. */
  checkpoint: number
  /** Its part of `dirtyBytes` for that checkpoint. */
  bytes: number
  /** The last call of `changes` that reported this cell. */
  round: number
  /** Whether it was read since eviction last considered it. */
  used: boolean
}

/** `deleted`: there is no value. `unread`: the store's value, if any. */
type Absence = typeof deleted | typeof unread
const deleted = Symbol('deleted')
const unread = Symbol('unread')

/** Changes in order: the cell, and its value before. */
export class UndoLog {
  readonly cells: (Cell<unknown> | undefined)[] = []
  readonly before: unknown[] = []
  length = 0

  clear(): void {
    this.length = 0
    // The arrays keep their capacity, but a record of unusual size must not keep its rows in memory.
    if (this.cells.length > 1_000) this.cells.length = this.before.length = 0
  }
}

/** Every how many sets or reads an entry is encoded to estimate the size of entries. */
const sampled = 64
/** The memory of a cell besides the text of its key and value, in bytes. */
const cellBytes = 200

export class Cells<V> implements Collection<V> {
  readonly name: string
  readonly #codec: Codec<V>
  readonly #store: Store
  readonly #shared: Shared
  readonly #kept: boolean
  readonly #cells = new CellMap<Cell<V>>()
  #dirty = new Overlay<Cell<V>>()
  saving = new Overlay<Cell<V>>()
  /** The values of the cells that are being saved, as of when that began. */
  #saved: readonly (V | Absence)[] = []
  /** The keys to delete from the store that have no cell: those of the next checkpoint, and of `saving`. */
  #dropped: string[] = []
  #savingDropped: string[] = []
  /** The greatest key of the store; most new keys are greater, for example ids that start with the time. */
  #highest = ''
  #lastKey: string | undefined
  #lastHash = 0
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

  /** About how many bytes of memory eviction could free. */
  get bytes(): number {
    return Math.round(this.#savedCount * (cellBytes + 2 * this.#bytesPerEntry))
  }

  /** The number of cells that are neither changed nor being saved. */
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

  set(key: string, value: V, bytes?: number): void {
    this.#set(key, value, true, bytes)
  }

  add(key: string, value: V, bytes?: number): void {
    this.#set(key, value, false, bytes)
  }

  #set(key: string, value: V, isStored: boolean, bytes = sizeOf(value)): void {
    this.#change(key, value, cellBytes + key.length + bytes, isStored)
    if (this.#sets++ % sampled === 0) this.#sample(key, this.#codec.encode(value))
  }

  delete(key: string): void {
    this.#change(key, deleted, cellBytes + key.length, true)
  }

  drop(key: string): void {
    if (this.#kept || this.#find(key) !== undefined) {
      this.delete(key)
      return
    }
    // After a checkpoint that failed the store still has what was dropped.
    const last = this.#dropped.at(-1) ?? this.#savingDropped.at(-1)
    if (last !== undefined && key <= last) return
    this.#dropped.push(key)
    this.#shared.dirtyBytes += key.length
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

  *stored(range?: KeyRange): Iterable<[string, V]> {
    for (const [key, text] of this.#store.range(this.name, range)) yield [key, this.#decode(key, text)]
  }

  /** The value of a key whose cell holds `held`. */
  resolve(key: string, held: unknown): V | undefined {
    if (held === deleted) return undefined
    return held === unread ? this.#read(key) : (held as V)
  }

  /** Assigns the changes, and those that the last checkpoint failed to save, to checkpoint `number`. */
  beginSaving(number: number): void {
    const { saved } = this.#shared
    for (const cell of this.saving.cells()) {
      if (cell.checkpoint > saved && cell.checkpoint < number) {
        cell.checkpoint = number
        this.#dirty.add(cell)
        this.#shared.dirtyCount++
      }
    }
    this.saving = this.#dirty
    this.#dirty = new Overlay<Cell<V>>()
    this.#savingDropped = this.#savingDropped.concat(this.#dropped)
    this.#dropped = []
    const cells = this.saving.cells()
    const values: (V | Absence)[] = new Array(cells.length)
    for (let i = 0; i < cells.length; i++) {
      const { key, value } = cells[i]!
      values[i] = value
      if (key > this.#highest) this.#highest = key
    }
    this.#saved = values
  }

  /** Called when the checkpoint is complete. Returns the work of dropping what need not be kept any longer. */
  endSaving(): Pieces {
    const saved = this.saving.cells()
    this.saving = new Overlay<Cell<V>>()
    this.#saved = []
    this.#savingDropped = []
    return this.#dropIdle(saved)
  }

  *#dropIdle(cells: readonly Cell<V>[]): Pieces {
    const { saved } = this.#shared
    for (let i = 0; i < cells.length; i++) {
      if (i > 0 && i % pieceRows === 0) yield
      const cell = cells[i]!
      // Most rows that are written unread, such as the lines of an order, are not needed again soon.
      const isIdle = !this.#kept || !cell.used || cell.value === deleted || cell.value === unread
      // In an earlier piece it may have been evicted, and the key may have another cell.
      if (isIdle && cell.checkpoint <= saved && this.#cells.get(cell.key, cell.hash) === cell)
        this.#drop(cell)
    }
  }

  get isSaving(): boolean {
    return this.saving.size > 0 || this.#savingDropped.length > 0
  }

  /** The entries that are being saved; their cells may change meanwhile. */
  *encoded(): Iterable<[string, string | Buffer | undefined]> {
    for (const key of this.#savingDropped) yield [key, undefined]
    const cells = this.saving.cells()
    for (let i = 0; i < cells.length; i++) {
      const cell = cells[i]!
      const value = this.#saved[i]!
      // For example, the entry of an index that was replaced since the last checkpoint.
      if (value === unread || (value === deleted && !cell.isStored)) continue
      cell.isStored = true
      yield [cell.key, value === deleted ? undefined : this.#codec.encode(value as V)]
    }
  }

  /** Evicts saved cells down to this fraction, those not read lately first (the clock algorithm). */
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

  /** The cell of a key. The last result is kept, since most keys are looked up twice in a row. */
  #find(key: string): Cell<V> | undefined {
    if (key !== this.#lastKey) {
      this.#lastKey = key
      this.#lastHash = hashOf(key)
      this.#lastCell = this.#cells.get(key, this.#lastHash)
    }
    return this.#lastCell
  }

  /** A cell of the key that was looked for last. */
  #cell(key: string, value: V | Absence, isStored: boolean): Cell<V> {
    const hash = this.#lastHash
    return { key, hash, home: this, value, isStored, checkpoint: 0, bytes: 0, round: 0, used: false }
  }

  #keep(cell: Cell<V>): void {
    this.#cells.add(cell)
    this.#lastKey = cell.key
    this.#lastHash = cell.hash
    this.#lastCell = cell
  }

  #drop(cell: Cell<V>): void {
    this.#cells.remove(cell)
    this.#lastKey = undefined
    this.#lastCell = undefined
  }

  /** @param isStored whether the store may have a value for the key, if no cell knows better */
  #change(key: string, value: V | typeof deleted, bytes: number, isStored: boolean): void {
    const shared = this.#shared
    const { undo, checkpoint } = shared
    let cell = this.#find(key)
    if (cell === undefined) {
      cell = this.#cell(key, unread, isStored)
      this.#keep(cell)
    } else if (cell.checkpoint <= shared.saved) cell.used = true
    if (cell.checkpoint !== checkpoint) {
      cell.checkpoint = checkpoint
      cell.bytes = 0
      this.#dirty.add(cell)
      shared.dirtyCount++
    }
    shared.dirtyBytes += bytes - cell.bytes
    cell.bytes = bytes
    undo.cells[undo.length] = cell as Cell<unknown>
    undo.before[undo.length++] = cell.value
    cell.value = value
  }

  /** Reads a value from the store, and caches it; or that there is none, since one is mostly set then. */
  #load(key: string): V | undefined {
    const value = this.#read(key)
    if (value !== undefined && !this.#kept) return value
    this.#keep(this.#cell(key, value ?? deleted, value !== undefined))
    if (this.#loads++ % 1_024 === 0) this.#shared.trim()
    return value
  }

  #known(key: string): V | undefined {
    const value = this.#cells.get(key, hashOf(key))?.value
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
      throw operatorError(
        'state-unreadable',
        `The derived state has an unreadable value for ${JSON.stringify(key)} of "${this.name}": ` +
          `${error instanceof Error ? error.message : error}. Everything in it can be derived from the log: stop ` +
          'the process, remove the state folder, and start again.',
        { cause: error },
      )
    }
  }

  #sample(key: string, text: string | Buffer): void {
    const bytes = key.length + text.length
    this.#bytesPerEntry += (bytes - this.#bytesPerEntry) / (this.#bytesPerEntry === 0 ? 1 : 8)
  }
}

/** About how many bytes a value takes in memory. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value.length
  if (typeof value !== 'object' || value === null) return 8
  let bytes = 8
  // Not `for … in`: V8 optimises that for one shape, and gave it up 1,000 times in 180,000 requests.
  for (const each of Object.values(value)) bytes += sizeOf(each)
  return bytes
}

const noEntries: Iterator<[string, string], undefined> = [].values()
