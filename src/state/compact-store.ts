import {
  type BlockChange,
  type BlockEntry,
  cut,
  entriesOf,
  merged,
  mergedLengthMax,
  removed,
  runOf,
  valueIn,
} from './block.ts'
import { FieldNames } from './field-names.ts'
import { compareKeys, endOfPrefix } from './keys.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/**
 * The collections that are stored in blocks: one row for each claim that is held, seldom read again. To read
 * a row that is not in memory takes 0.1 to 0.4 ms. A checkpoint writes a run, its changes alone; after some
 * runs all of them are merged into the blocks, and a block is written anew if one of its rows changed.
 */
const packedCollections: ReadonlySet<string> = new Set(['t:hence.claims'])

const namesCollection = '#names'

/**
 * The runs of the collections in blocks.
 *
 *   collection                                        → how many there are
 *   collection, 00, number of the run from 1, a key   → a block of it that begins with this key
 */
const runsCollection = '#runs'
/** With so many runs, the next changes are merged into the blocks. */
const runsMax = 8

/** Blocks of one collection: a run of it, or what its runs are merged into. */
interface Layer {
  readonly collection: string
  /** Before the keys of the blocks. */
  readonly prefix: string
}

function runOfCollection(collection: string, number: number): Layer {
  return { collection: runsCollection, prefix: `${collection}\0${String.fromCharCode(number)}` }
}

/** Stores rows in less space: short codes for the names of fields, and some collections in blocks. */
export class CompactStore implements Store {
  readonly #store: Store
  readonly #packed: ReadonlySet<string>
  readonly #reading: CompactReading
  /** By collection: its names, and how many of them are stored. */
  readonly #names = new Map<string, { readonly names: FieldNames; stored: number }>()

  /** The collections that the other store must have. */
  static collections(collections: readonly string[]): string[] {
    return [namesCollection, runsCollection, ...collections]
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
        yield [collection, names === undefined ? entries : new Shortened(names, entries)]
        continue
      }
      const gathered = packed.get(collection) ?? []
      packed.set(collection, gathered)
      for (const [key, value] of names === undefined ? entries : new Shortened(names, entries)) {
        gathered.push([key, value?.toString()])
        // So that the other store counts it as a row.
        yield [collection, []]
      }
    }
    const reading = this.#reading.of(before)
    for (const [collection, gathered] of packed) {
      gathered.sort(([a], [b]) => compareKeys(a, b))
      // Of several changes of a key, the last one counts.
      const sorted = gathered.filter(([key], i) => key !== gathered[i + 1]?.[0])
      const count = reading.runs(collection)
      if (count < runsMax) {
        yield [runsCollection, run(collection, count + 1, sorted)]
        continue
      }
      const passed = [collection]
      yield [collection, blocks(before, reading, collection, reading.unmerged(collection, sorted, passed))]
      yield [runsCollection, removals(passed)]
    }
    for (const [collection, { names, stored }] of this.#names) {
      if (names.count > stored) yield [namesCollection, [[collection, names.text]]]
    }
  }
}

/** The changed blocks of a collection, into which changes are merged in the order of their keys. */
function* blocks(
  before: StoreView,
  reading: CompactReading,
  collection: string,
  changes: Iterator<BlockChange, undefined>,
): CollectionChanges[1] {
  let all: Iterator<[string, string], undefined> | undefined
  let block: [string, string] | undefined
  let next: [string, string] | undefined
  for (let change = changes.next().value; change !== undefined; ) {
    // Most changes are in neighbouring blocks. If not, the right one is looked up.
    if (all !== undefined) [block, next] = [next, all.next().value]
    if (all === undefined || (next !== undefined && change[0] >= next[0])) {
      const first = reading.blockOf({ collection, prefix: '' }, change[0])
      all?.return?.()
      all = before.range(collection, { from: first })[Symbol.iterator]()
      ;[block, next] = [all.next().value, all.next().value]
    }
    const belongs = () => change !== undefined && (next === undefined || change[0] < next[0])
    let rest = block?.[1] ?? ''
    for (let isFirst = true; belongs(); isFirst = false) {
      const within: BlockChange[] = []
      for (let length = 0; belongs() && length < mergedLengthMax; change = changes.next().value) {
        within.push(change!)
        length += change![0].length + (change![1]?.length ?? 0)
      }
      const [lesser, others] = belongs() ? cut(rest, change![0]) : [rest, '']
      const fresh = merged(lesser, within)
      if (isFirst && block !== undefined && block[0] !== fresh[0]?.[0]) yield [block[0], undefined]
      for (const [key, text] of fresh) yield [key, Buffer.from(text)]
      rest = others
    }
  }
  all?.return?.()
}

function* run(collection: string, number: number, changes: readonly BlockChange[]): CollectionChanges[1] {
  const { prefix } = runOfCollection(collection, number)
  for (const [first, block] of runOf(changes)) yield [prefix + first, Buffer.from(block)]
  yield [collection, String(number)]
}

function* removals(keys: Iterable<string>): CollectionChanges[1] {
  for (const key of keys) yield [key, undefined]
}

/** Entries with codes in the place of names. No generator, which would cost as much as the shortening. */
class Shortened implements IterableIterator<WrittenEntry> {
  readonly #names: FieldNames
  readonly #entries: Iterator<WrittenEntry>

  constructor(names: FieldNames, entries: Iterable<WrittenEntry>) {
    this.#names = names
    this.#entries = entries[Symbol.iterator]()
  }

  [Symbol.iterator](): this {
    return this
  }

  next(): IteratorResult<WrittenEntry> {
    const next = this.#entries.next()
    if (next.done) return next
    const [key, value] = next.value
    if (typeof value === 'string') next.value = [key, this.#names.shorten(value)]
    return next
  }
}

type WrittenEntry = readonly [key: string, value: string | Buffer | undefined]

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
    const text = this.#packed.has(collection)
      ? this.#unpacked(collection, key)
      : this.#store.get(collection, key)
    return text === undefined ? undefined : this.#expand(collection, text)
  }

  *range(collection: string, range: KeyRange): Iterable<[string, string]> {
    const entries = this.#packed.has(collection)
      ? this.#newest(
          this.#layers(collection).map((layer) => this.#entries(layer, range)),
          range.reverse,
        )
      : this.#store.range(collection, range)
    for (const [key, text] of entries) if (text !== removed) yield [key, this.#expand(collection, text)]
  }

  runs(collection: string): number {
    return Number(this.#store.get(runsCollection, collection) ?? 0)
  }

  /**
   * Changes together with those of all runs, in the order of their keys.
   * @param passed gets the keys of the blocks of these runs
   */
  *unmerged(
    collection: string,
    changes: readonly BlockChange[],
    passed: string[],
  ): Iterator<BlockChange, undefined> {
    const runs = this.#layers(collection).slice(0, -1)
    const layers = [changes.values(), ...runs.map((layer) => this.#entries(layer, {}, passed))]
    for (const [key, text] of this.#newest<BlockChange>(layers))
      yield [key, text === removed ? undefined : text]
  }

  /** The block of a layer that a key belongs into: the first if it comes before all; or the prefix. */
  blockOf({ collection, prefix }: Layer, key: string): string {
    const before = { from: prefix, to: `${prefix}${key}\0`, reverse: true }
    for (const [first] of this.#store.range(collection, before)) return first
    for (const [first] of this.#store.range(collection, { from: prefix, to: endOfPrefix(prefix) }))
      return first
    return prefix
  }

  /** Newest first: the runs, and what they are merged into. */
  #layers(collection: string): Layer[] {
    const layers: Layer[] = [{ collection, prefix: '' }]
    for (let n = 1; n <= this.runs(collection); n++) layers.unshift(runOfCollection(collection, n))
    return layers
  }

  #unpacked(collection: string, key: string): string | undefined {
    for (const { collection: name, prefix } of this.#layers(collection)) {
      const before = { from: prefix, to: `${prefix}${key}\0`, reverse: true }
      for (const [, block] of this.#store.range(name, before)) {
        const text = valueIn(block, key)
        if (text !== undefined) return text === removed ? undefined : text
        break
      }
    }
    return undefined
  }

  /** The entries of layers, newest first, in the order of their keys: of each key the newest one. */
  *#newest<Entry extends BlockChange = BlockEntry>(
    layers: readonly Iterator<Entry, undefined>[],
    reverse = false,
  ): Iterable<Entry> {
    try {
      const heads = layers.map((each) => each.next().value)
      for (;;) {
        let next: Entry | undefined
        for (const head of heads) {
          if (head === undefined || head[0] === next?.[0]) continue
          if (next === undefined || head[0] < next[0] !== reverse) next = head
        }
        if (next === undefined) return
        for (const [i, head] of heads.entries()) if (head?.[0] === next[0]) heads[i] = layers[i]!.next().value
        yield next
      }
    } finally {
      for (const each of layers) each.return?.()
    }
  }

  *#entries(
    layer: Layer,
    { from, to, reverse }: KeyRange,
    passed?: string[],
  ): Iterator<BlockEntry, undefined> {
    const { collection, prefix } = layer
    const first = from === undefined ? prefix : this.blockOf(layer, from)
    const end = to === undefined ? endOfPrefix(prefix) : prefix + to
    for (const [key, block] of this.#store.range(collection, { from: first, to: end, reverse })) {
      passed?.push(key)
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
