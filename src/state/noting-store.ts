import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** Keys, by their collections. */
export type Keys = ReadonlyMap<string, ReadonlySet<string>>

/** A store that can tell which keys were written since it was last asked. */
export class NotingStore implements Store {
  readonly #store: Store
  #noted: ReadonlyMap<string, Set<string>> | undefined

  constructor(store: Store) {
    this.#store = store
  }

  /**
   * Begins to note which keys of some collections are written; a write that is under way may be noted or not.
   * @returns the keys that were written since the last call
   */
  note(collections: readonly string[]): Keys {
    const noted = this.#noted ?? new Map()
    this.#noted = new Map(collections.map((collection) => [collection, new Set()]))
    return noted
  }

  /** Notes no more. */
  forget(): void {
    this.#noted = undefined
  }

  get(collection: string, key: string): string | undefined {
    return this.#store.get(collection, key)
  }

  range(collection: string, range?: KeyRange): Iterable<[key: string, value: string]> {
    return this.#store.range(collection, range)
  }

  write(changes: Iterable<CollectionChanges>): Promise<void> {
    return this.#store.write(this.#noted === undefined ? changes : this.#noting(changes))
  }

  view(): StoreView {
    return this.#store.view()
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  *#noting(changes: Iterable<CollectionChanges>): Iterable<CollectionChanges> {
    for (const [collection, entries] of changes) {
      const keys = this.#noted?.get(collection)
      yield [collection, keys === undefined ? entries : noting(entries, keys)]
    }
  }
}

function* noting(entries: CollectionChanges[1], keys: Set<string>): CollectionChanges[1] {
  for (const entry of entries) {
    keys.add(entry[0])
    yield entry
  }
}
