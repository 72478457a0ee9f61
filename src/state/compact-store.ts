import { type BlockChange, entriesOf, merged, valueIn } from './block.ts'
import { FieldNames } from './field-names.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/**
 * The collections that are stored in blocks: one row for each claim that is held, seldom read again. To read
 * a row that is not in memory takes about 0.1 ms, and a checkpoint writes a block anew if one of its rows
 * changed.
 */
const packedCollections: ReadonlySet<string> = new Set(['t:hence.claims'])

const namesCollection = '#names'

/**
 * A store that takes less space in another store: rows of tables have short codes in the place of the names
 * of their fields, and some collections are stored in blocks.
 */
export class CompactStore implements Store {
  readonly #store: Store
  readonly #packed: ReadonlySet<string>
  readonly #reading: CompactReading
  /** By collection: its names, and how many of them are stored. */
  readonly #names = new Map<string, { readonly names: FieldNames; stored: number }>()

  /** The collections that the other store must have. */
  static collections(collections: readonly string[]): string[] {
    return [namesCollection, ...collections]
  }

  /**
   * @param store opened with `CompactStore.collections`
   * @param unreadable makes the error for what cannot be read
   * @param packed the collections that are stored in blocks
   */
  constructor(
    store: Store,
    collections: readonly string[],
    unreadable: (why: string) => Error,
    packed: ReadonlySet<string> = packedCollections,
  ) {
    this.#store = store
    this.#packed = packed
    const all = new Map<string, FieldNames>()
    for (const collection of collections) {
      if (!collection.startsWith('t:')) continue
      const names = new FieldNames(store.get(namesCollection, collection))
      all.set(collection, names)
      this.#names.set(collection, { names, stored: names.count })
    }
    this.#reading = new CompactReading(store, packed, all, unreadable)
  }

  get(collection: string, key: string): string | undefined {
    return this.#reading.get(collection, key)
  }

  range(collection: string, range: KeyRange = {}): Iterable<[string, string]> {
    return this.#reading.range(collection, range)
  }

  view(): StoreView {
    const view = this.#store.view()
    const then = this.#reading.of(view)
    return {
      get: (collection, key) => then.get(collection, key),
      range: (collection, range = {}) => then.range(collection, range),
      close: () => view.close(),
    }
  }

  async write(changes: Iterable<CollectionChanges>): Promise<void> {
    const before = this.#store.view()
    try {
      await this.#store.write(this.#compact(changes, before))
    } finally {
      before.close()
    }
    for (const each of this.#names.values()) each.stored = each.names.count
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  *#compact(changes: Iterable<CollectionChanges>, before: StoreView): Iterable<CollectionChanges> {
    const packed = new Map<string, BlockChange[]>()
    for (const [collection, entries] of changes) {
      const names = this.#names.get(collection)?.names
      if (!this.#packed.has(collection)) {
        yield [collection, names === undefined ? entries : shortened(names, entries)]
        continue
      }
      const gathered = packed.get(collection) ?? []
      packed.set(collection, gathered)
      for (const [key, value] of names === undefined ? entries : shortened(names, entries)) {
        gathered.push([key, value?.toString()])
        // So that the other store counts it as a row.
        yield [collection, []]
      }
    }
    for (const [collection, gathered] of packed)
      yield [collection, this.#blocks(before, collection, gathered)]
    for (const [collection, { names, stored }] of this.#names) {
      if (names.count > stored) yield [namesCollection, [[collection, names.text]]]
    }
  }

  /** The changed blocks of a collection. */
  *#blocks(before: StoreView, collection: string, changes: BlockChange[]): CollectionChanges[1] {
    // Of several changes of a key, the last one counts.
    const sorted = [...new Map(changes)].sort(([a], [b]) => (a < b ? -1 : 1))
    let blocks: Iterator<[string, string], undefined> | undefined
    let block: [string, string] | undefined
    let next: [string, string] | undefined
    for (let from = 0, to = 0; from < sorted.length; from = to) {
      const isIn = (at: number) => next === undefined || sorted[at]![0] < next[0]
      // Most changes are in neighbouring blocks. If not, the right one is looked up.
      if (blocks !== undefined) [block, next] = [next, blocks.next().value]
      if (blocks === undefined || !isIn(from)) {
        const first = this.#reading.blockOf(collection, sorted[from]![0])
        blocks?.return?.()
        blocks = before.range(collection, { from: first })[Symbol.iterator]()
        ;[block, next] = [blocks.next().value, blocks.next().value]
      }
      for (to = from + 1; to < sorted.length && isIn(to); ) to++
      const fresh = merged(block?.[1] ?? '', sorted.slice(from, to))
      if (block !== undefined && block[0] !== fresh[0]?.[0]) yield [block[0], undefined]
      for (const [key, text] of fresh) yield [key, Buffer.from(text)]
    }
    blocks?.return?.()
  }
}

function* shortened(names: FieldNames, entries: CollectionChanges[1]): CollectionChanges[1] {
  for (const [key, value] of entries) yield [key, typeof value === 'string' ? names.shorten(value) : value]
}

class CompactReading {
  readonly #store: Pick<Store, 'get' | 'range'>
  readonly #packed: ReadonlySet<string>
  readonly #names: ReadonlyMap<string, FieldNames>
  readonly #unreadable: (why: string) => Error

  constructor(
    store: Pick<Store, 'get' | 'range'>,
    packed: ReadonlySet<string>,
    names: ReadonlyMap<string, FieldNames>,
    unreadable: (why: string) => Error,
  ) {
    this.#store = store
    this.#packed = packed
    this.#names = names
    this.#unreadable = unreadable
  }

  of(view: StoreView): CompactReading {
    return new CompactReading(view, this.#packed, this.#names, this.#unreadable)
  }

  get(collection: string, key: string): string | undefined {
    let text: string | undefined
    if (!this.#packed.has(collection)) text = this.#store.get(collection, key)
    else {
      for (const [, block] of this.#store.range(collection, { to: `${key}\0`, reverse: true })) {
        text = valueIn(block, key)
        break
      }
    }
    return text === undefined ? undefined : this.#expand(collection, text)
  }

  *range(collection: string, range: KeyRange): Iterable<[string, string]> {
    const entries = this.#packed.has(collection)
      ? this.#unpacked(collection, range)
      : this.#store.range(collection, range)
    for (const [key, text] of entries) yield [key, this.#expand(collection, text)]
  }

  /** The key of the block that a key belongs into: the first one if it comes before all; '' if there is none. */
  blockOf(collection: string, key: string): string {
    for (const [first] of this.#store.range(collection, { to: `${key}\0`, reverse: true })) return first
    for (const [first] of this.#store.range(collection)) return first
    return ''
  }

  *#unpacked(collection: string, { from, to, reverse }: KeyRange): Iterable<readonly [string, string]> {
    const first = from === undefined ? undefined : this.blockOf(collection, from)
    for (const [, block] of this.#store.range(collection, { from: first, to, reverse })) {
      const entries = [...entriesOf(block)]
      for (const entry of reverse ? entries.reverse() : entries)
        if ((from === undefined || entry[0] >= from) && (to === undefined || entry[0] < to)) yield entry
    }
  }

  #expand(collection: string, short: string): string {
    const names = this.#names.get(collection)
    if (names === undefined) return short
    let text = names.expand(short)
    if (text === undefined) {
      // Another process has written names since this one opened the store.
      names.load(this.#store.get(namesCollection, collection))
      text = names.expand(short)
    }
    if (text === undefined) throw this.#unreadable(`a row of "${collection}" has fields without names`)
    return text
  }
}
