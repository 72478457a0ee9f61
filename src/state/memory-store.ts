import { textOf } from './compression.ts'
import { SortedMap } from './sorted-map.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

export interface MemoryStore extends Store {
  /** An independent copy of all that is durable: the store as a process would find it after a crash now. */
  snapshot(): MemoryStore
}

/** Creates an empty store in memory, for tests and simulations. */
export const memoryStore = (): MemoryStore => new TreeStore(new Map())

class TreeStore implements MemoryStore {
  readonly #trees: Map<string, SortedMap<string>>
  #writing: Promise<void> | undefined

  constructor(trees: Map<string, SortedMap<string>>) {
    this.#trees = trees
  }

  get(collection: string, key: string): string | undefined {
    return this.#trees.get(collection)?.get(key)
  }

  *range(collection: string, { from, to, reverse }: KeyRange = {}): Iterable<[string, string]> {
    const tree = this.#trees.get(collection)
    if (tree === undefined) return
    if (reverse) {
      for (const [key, value] of tree.entriesReversed(to, undefined, true)) {
        if (from !== undefined && key < from) return
        yield [key, value]
      }
    } else {
      for (const [key, value] of tree.entries(from)) {
        if (to !== undefined && key >= to) return
        yield [key, value]
      }
    }
  }

  async write(changes: Iterable<CollectionChanges>): Promise<void> {
    const all: [string, CollectionChanges[1]][] = []
    // A write takes turns of the event loop, so that tests find code that reads too early, stops half-way, or
    // changes what is being written.
    const gathering = async () => {
      for (const [collection, entries] of changes) {
        await new Promise((resolve) => setImmediate(resolve))
        all.push([collection, [...entries]])
      }
    }
    this.#writing = gathering()
    await this.#writing
    for (const [collection, entries] of all) {
      let tree = this.#trees.get(collection)
      if (tree === undefined) {
        tree = new SortedMap<string>()
        this.#trees.set(collection, tree)
      }
      for (const [key, value] of entries) {
        if (value === undefined) tree.delete(key)
        else tree.set(key, typeof value === 'string' ? value : textOf(value))
      }
    }
  }

  async close(): Promise<void> {
    await this.#writing
  }

  view(): StoreView {
    const then = this.snapshot()
    return {
      get: (collection, key) => then.get(collection, key),
      range: (collection, range) => then.range(collection, range),
      close() {},
    }
  }

  snapshot(): MemoryStore {
    return new TreeStore(new Map([...this.#trees].map(([name, tree]) => [name, tree.clone()])))
  }
}
