import { compareKeys } from './keys.ts'
import { SortedMap } from './sorted-map.ts'
import type { KeyRange } from './store.ts'

/** Stands in an overlay for a value that was deleted. */
export const deleted = Symbol('deleted')

/** How many times its size an overlay may be gone through for ranges before its keys are kept sorted. */
const passesUnsorted = 16

/**
 * Changes of a collection in memory, over what lies below: key → value, or `deleted`.
 *
 * Keeping keys sorted costs several times what the change itself costs, and most collections are never asked
 * for a range. So the first ranges pick their keys out of all; when that has cost about as much as sorting,
 * the keys are sorted once and kept so.
 */
export class Overlay<V> {
  readonly entries = new Map<string, V | typeof deleted>()
  #sorted: SortedMap<undefined> | undefined
  #passes = 0

  /** Must be told of every key that comes into `entries`. */
  added(key: string): void {
    this.#sorted?.set(key, undefined)
  }

  /** Must be told of every key that goes out of `entries`. */
  removed(key: string): void {
    this.#sorted?.delete(key)
  }

  /** The keys in a range, those of deleted values too. They must not change while one goes through them. */
  keys(range: KeyRange): Iterator<string, undefined> {
    if (this.#sorted === undefined && this.#passes++ < passesUnsorted) return this.#pick(range)
    if (this.#sorted === undefined) {
      this.#sorted = new SortedMap<undefined>()
      for (const key of [...this.entries.keys()].sort(compareKeys)) this.#sorted.set(key, undefined)
    }
    return walk(this.#sorted, range)
  }

  #pick({ from, to, reverse }: KeyRange): Iterator<string, undefined> {
    const picked: string[] = []
    for (const key of this.entries.keys()) {
      if ((from === undefined || key >= from) && (to === undefined || key < to)) picked.push(key)
    }
    picked.sort(compareKeys)
    if (reverse) picked.reverse()
    return picked.values()
  }
}

function* walk(tree: SortedMap<undefined>, { from, to, reverse }: KeyRange): Generator<string, undefined> {
  if (reverse) {
    for (const [key] of tree.entriesReversed(to, [], true)) {
      if (from !== undefined && key < from) return
      yield key
    }
  } else {
    for (const key of tree.keys(from)) {
      if (to !== undefined && key >= to) return
      yield key
    }
  }
}
