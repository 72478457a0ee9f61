import { HenceError } from '../failure.ts'
import { deleted, Overlay } from './overlay.ts'
import type { CollectionChanges, KeyRange, Store } from './store.ts'

/** How the values of a collection are written as text. */
export interface Codec<V> {
  encode(value: V): string
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
export interface Change {
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
 *   current    what changed since the last checkpoint began     ← every change goes here
 *   previous   what changed before that, until it began
 *   store      the last checkpoint that is complete
 *
 * A read asks them in this order, so it makes no difference to it whether a checkpoint is under way. When
 * one is complete, `previous` says the same as the store and stays as a cache of what was lately changed.
 *
 * Changes since the last `commit` can be undone.
 */
export class State {
  readonly #store: Store
  readonly #layers = new Map<string, Layers<unknown>>()
  readonly #undo = new UndoLog()
  /** The content of `previous` is in the store. */
  #saved = true
  #writing: Promise<void> | undefined

  constructor(store: Store) {
    this.#store = store
  }

  /** Makes a collection available; each name once, and it must be one the store was opened with. */
  collection<V>(name: string, codec: Codec<V>): Collection<V> {
    if (this.#layers.has(name)) throw new Error(`The collection "${name}" is in use already.`)
    const layers = new Layers<V>(name, codec, this.#store, this.#undo, () => this.#saved)
    this.#layers.set(name, layers as Layers<unknown>)
    return layers
  }

  /** The present position in the undo log. */
  mark(): number {
    return this.#undo.length
  }

  /** Puts every collection back to how it was at a mark. */
  undo(mark: number): void {
    const undo = this.#undo
    while (undo.length > mark) {
      undo.length--
      const i = undo.length * 3
      const layers = undo.slots[i] as Layers<unknown>
      layers.restore(undo.slots[i + 1] as string, undo.slots[i + 2])
    }
  }

  /**
   * What became of the keys that were changed since a mark: each once, in the order in which they were first
   * touched. A key that had no value at the mark and has none now is left out.
   */
  *changes(mark: number): Iterable<Change> {
    const undo = this.#undo
    const seen = new Map<Layers<unknown>, Set<string>>()
    for (let i = mark * 3; i < undo.length * 3; i += 3) {
      const layers = undo.slots[i] as Layers<unknown>
      const key = undo.slots[i + 1] as string
      let keys = seen.get(layers)
      if (keys === undefined) {
        keys = new Set()
        seen.set(layers, keys)
      }
      if (keys.has(key)) continue
      keys.add(key)
      const before = layers.resolve(key, undo.slots[i + 2])
      const after = layers.get(key)
      if (before !== undefined || after !== undefined) yield { collection: layers.name, key, before, after }
    }
  }

  /** Forgets how to undo what was changed; to be called once for each record that was applied. */
  commit(): void {
    this.#undo.clear()
  }

  /** How many changed keys wait for the next checkpoint. */
  get dirtyCount(): number {
    const failed = this.#failed
    let count = 0
    for (const layers of this.#layers.values()) count += layers.dirtyCount(failed)
    return count
  }

  /** About how many bytes they and their values have as text, by a sample of them. */
  get dirtyBytes(): number {
    const failed = this.#failed
    let bytes = 0
    for (const layers of this.#layers.values()) bytes += layers.dirtyCount(failed) * layers.bytesPerEntry
    return Math.round(bytes)
  }

  /**
   * Saves all that was changed up to the moment of the call, in one atomic write; changes may go on in the
   * meantime. One at a time, and between two records: nothing may be left to undo.
   *
   * @throws HenceError `checkpoint-failed` (retry); then nothing is lost, and the next checkpoint takes what
   *   this one should have saved
   */
  async checkpoint(): Promise<void> {
    if (this.#undo.length > 0) throw new Error('A checkpoint was asked for in the midst of a record.')
    if (this.#writing) throw new Error('A checkpoint was asked for while another one is under way.')
    for (const layers of this.#layers.values()) layers.moveAside(this.#saved)
    this.#saved = false
    try {
      this.#writing = this.#store.write(this.#previous())
      await this.#writing
      this.#saved = true
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
  }

  /** Waits for a checkpoint under way, then closes the store. What was changed since is in the log alone. */
  async close(): Promise<void> {
    await this.#writing?.catch(() => {})
    await this.#store.close()
  }

  /** The last checkpoint failed, and `previous` waits for the next one. */
  get #failed(): boolean {
    return !this.#saved && this.#writing === undefined
  }

  *#previous(): Iterable<CollectionChanges> {
    for (const layers of this.#layers.values()) {
      if (layers.previous.entries.size > 0) yield [layers.name, layers.encoded()]
    }
  }
}

/** Changes in order, three slots each: the layers, the key, and what `current` held before. */
class UndoLog {
  readonly slots: unknown[] = []
  length = 0

  clear(): void {
    this.length = 0
    // Slots are used again, so that their growth costs nothing; but a record of unusual size must not keep
    // its rows in memory for ever.
    if (this.slots.length > 3_000) this.slots.length = 0
  }
}

/** One entry in so many is encoded when it is set, to know how large they are. */
const sampled = 64

class Layers<V> implements Collection<V> {
  readonly name: string
  readonly #codec: Codec<V>
  readonly #store: Store
  readonly #undo: UndoLog
  readonly #isSaved: () => boolean
  /** No key of the store is greater; most new keys are, such as ids that begin with the time. */
  #highest: string
  #current = new Overlay<V>()
  previous = new Overlay<V>()
  #sets = 0
  bytesPerEntry = 0

  constructor(name: string, codec: Codec<V>, store: Store, undo: UndoLog, isSaved: () => boolean) {
    this.name = name
    this.#codec = codec
    this.#store = store
    this.#undo = undo
    this.#isSaved = isSaved
    this.#highest = ''
    for (const [key] of store.range(name, { reverse: true })) {
      this.#highest = key
      break
    }
  }

  dirtyCount(failed: boolean): number {
    return this.#current.entries.size + (failed ? this.previous.entries.size : 0)
  }

  get(key: string): V | undefined {
    const value = this.#current.entries.get(key)
    if (value !== undefined) return value === deleted ? undefined : (value as V)
    return this.#below(key)
  }

  set(key: string, value: V): void {
    this.#change(key, value)
    if (this.#sets++ % sampled === 0) this.#sample(key, value)
  }

  delete(key: string): void {
    this.#change(key, deleted)
  }

  *range(range: KeyRange = {}): Iterable<[string, V]> {
    const { from, reverse } = range
    const current = this.#current
    const previous = this.previous
    const currentKeys = current.keys(range)
    const previousKeys = this.#isSaved() ? noKeys : previous.keys(range)
    const stored =
      from !== undefined && from > this.#highest
        ? noEntries
        : this.#store.range(this.name, range)[Symbol.iterator]()
    try {
      let a = currentKeys.next().value
      let b = previousKeys.next().value
      let c: [string, string] | undefined = stored.next().value
      for (;;) {
        let key = a
        if (b !== undefined && (key === undefined || b < key !== !!reverse)) key = b
        if (c !== undefined && (key === undefined || c[0] < key !== !!reverse)) key = c[0]
        if (key === undefined) return
        let value: V | typeof deleted
        if (key === a) value = current.entries.get(key)!
        else if (key === b) value = previous.entries.get(key)!
        else value = this.#decode(key, c![1])
        if (key === a) a = currentKeys.next().value
        if (key === b) b = previousKeys.next().value
        if (c !== undefined && key === c[0]) c = stored.next().value
        if (value !== deleted) yield [key, value as V]
      }
    } finally {
      stored.return?.()
    }
  }

  /** Puts back what `current` held for a key before it was changed. */
  restore(key: string, before: unknown): void {
    if (before === undefined) {
      this.#current.entries.delete(key)
      this.#current.removed(key)
    } else {
      this.#current.entries.set(key, before as V)
    }
  }

  /** The value that a key has if `current` holds this for it. */
  resolve(key: string, held: unknown): V | undefined {
    if (held === deleted) return undefined
    return held === undefined ? this.#below(key) : (held as V)
  }

  /** Makes `current` into `previous`; if that one has not been saved, the changes of both are. */
  moveAside(saved: boolean): void {
    const { entries } = this.#current
    for (const key of entries.keys()) if (key > this.#highest) this.#highest = key
    if (saved) {
      this.previous = this.#current
    } else {
      for (const [key, value] of entries) {
        if (!this.previous.entries.has(key)) this.previous.added(key)
        this.previous.entries.set(key, value)
      }
    }
    this.#current = new Overlay<V>()
  }

  *encoded(): Iterable<[string, string | undefined]> {
    for (const [key, value] of this.previous.entries) {
      yield [key, value === deleted ? undefined : this.#codec.encode(value as V)]
    }
  }

  #change(key: string, value: V | typeof deleted): void {
    const current = this.#current
    const before = current.entries.get(key)
    const undo = this.#undo
    const i = undo.length * 3
    undo.slots[i] = this
    undo.slots[i + 1] = key
    undo.slots[i + 2] = before
    undo.length++
    current.entries.set(key, value)
    if (before === undefined) current.added(key)
  }

  #below(key: string): V | undefined {
    const value = this.previous.entries.get(key)
    if (value !== undefined) return value === deleted ? undefined : (value as V)
    if (key > this.#highest) return undefined
    const text = this.#store.get(this.name, key)
    return text === undefined ? undefined : this.#decode(key, text)
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

  #sample(key: string, value: V): void {
    const bytes = key.length + this.#codec.encode(value).length
    this.bytesPerEntry += (bytes - this.bytesPerEntry) / (this.bytesPerEntry === 0 ? 1 : 8)
  }
}

const noKeys: Iterator<string, undefined> = [].values()
const noEntries: Iterator<[string, string], undefined> = [].values()
