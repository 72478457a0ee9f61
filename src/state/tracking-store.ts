import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

export type WrittenKeys = ReadonlyMap<string, ReadonlySet<string>>

/** Beyond this many written keys, tracking stops and the keys count as unknown. */
const keysMax = 1_000_000

/** A store that can report which keys were written since a moment. */
export class TrackingStore implements Store {
  readonly #store: Store
  #tracked: ReadonlyMap<string, Set<string>> | undefined
  #count = 0

  constructor(store: Store) {
    this.#store = store
  }

  /**
   * Returns the keys of some collections written since the last call; undefined if unknown, for example at
   * the first call. It tracks them from here on; those of a write under way are in this one or the next.
   */
  takeWrittenKeys(collections: readonly string[]): WrittenKeys | undefined {
    const tracked = this.#tracked
    this.#tracked = new Map(collections.map((collection) => [collection, new Set()]))
    this.#count = 0
    return tracked
  }

  stopTracking(): void {
    this.#tracked = undefined
  }

  get(collection: string, key: string): string | undefined {
    return this.#store.get(collection, key)
  }

  range(collection: string, range?: KeyRange): Iterable<[key: string, value: string]> {
    return this.#store.range(collection, range)
  }

  write(changes: Iterable<CollectionChanges>): Promise<void> {
    if (this.#count > keysMax) this.stopTracking()
    return this.#store.write(this.#tracked === undefined ? changes : this.#tracking(changes))
  }

  view(): StoreView {
    return this.#store.view()
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  *#tracking(changes: Iterable<CollectionChanges>): Iterable<CollectionChanges> {
    for (const [collection, entries] of changes) yield [collection, this.#trackingKeys(collection, entries)]
  }

  *#trackingKeys(collection: string, entries: CollectionChanges[1]): CollectionChanges[1] {
    for (const entry of entries) {
      // Others while the write goes on, if they were taken.
      const keys = this.#tracked?.get(collection)
      if (keys?.add(entry[0])) this.#count++
      yield entry
    }
  }
}
