import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** Keys, by their collections. */
export type Keys = ReadonlyMap<string, ReadonlySet<string>>

/** So many keys it notes at most; then they count as unknown. */
const keysMax = 1_000_000

/** A store that can tell which keys were written since it was last asked. */
export class NotingStore implements Store {
  readonly #store: Store
  #collections: readonly string[] = []
  #noted: ReadonlyMap<string, Set<string>> | undefined
  #count = 0

  constructor(store: Store) {
    this.#store = store
  }

  /** Begins to note which keys of some collections are written; a write that is under way may be noted or not. */
  note(collections: readonly string[]): void {
    this.#collections = collections
    this.#noted = new Map(collections.map((collection) => [collection, new Set()]))
    this.#count = 0
  }

  /** The keys that were written since the last call, or since `note`; undefined when they are not known. Goes on to note. */
  taken(): Keys | undefined {
    const noted = this.#noted
    this.note(this.#collections)
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
    if (this.#count > keysMax) this.forget()
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
      yield [collection, keys === undefined ? entries : this.#notingIn(keys, entries)]
    }
  }

  *#notingIn(keys: Set<string>, entries: CollectionChanges[1]): CollectionChanges[1] {
    for (const entry of entries) {
      keys.add(entry[0])
      this.#count++
      yield entry
    }
  }
}
