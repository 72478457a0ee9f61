import { compareKeys } from './keys.ts'
import { SortedMap } from './sorted-map.ts'
import type { KeyRange } from './store.ts'

/** How many range reads scan all cells before the overlay starts to keep its keys sorted. */
const passesUnsorted = 16

/**
 * The cells of a collection that override the store, iterable in key order.
 *
 * Keeping keys sorted costs several times as much as the change itself, and most collections get no range
 * reads. So the first range reads filter all cells; once they have cost about as much as sorting, the keys
 * are sorted and kept sorted.
 */
export class Overlay<Cell extends { readonly key: string }> {
  readonly #cells: Cell[] = []
  #sorted: SortedMap<Cell> | undefined
  #passes = 0

  get size(): number {
    return this.#cells.length
  }

  /** All cells, in insertion order. */
  cells(): readonly Cell[] {
    return this.#cells
  }

  /** Adds a cell that is not in the overlay. */
  add(cell: Cell): void {
    this.#cells.push(cell)
    this.#sorted?.set(cell.key, cell)
  }

  /** The cells in a range. None may be added during the iteration. */
  range(range: KeyRange): Iterator<Cell, undefined> {
    if (this.#sorted === undefined && this.#passes++ < passesUnsorted) return this.#pick(range)
    if (this.#sorted === undefined) {
      this.#sorted = new SortedMap<Cell>()
      for (const cell of this.#cells.toSorted(byKey)) this.#sorted.set(cell.key, cell)
    }
    return walk(this.#sorted, range)
  }

  #pick({ from, to, reverse }: KeyRange): Iterator<Cell, undefined> {
    const picked: Cell[] = []
    for (const cell of this.#cells) {
      const { key } = cell
      if ((from === undefined || key >= from) && (to === undefined || key < to)) picked.push(cell)
    }
    picked.sort(byKey)
    if (reverse) picked.reverse()
    return picked.values()
  }
}

const byKey = (a: { readonly key: string }, b: { readonly key: string }): number => compareKeys(a.key, b.key)

function* walk<Cell>(tree: SortedMap<Cell>, { from, to, reverse }: KeyRange): Generator<Cell, undefined> {
  if (reverse) {
    for (const [key, cell] of tree.entriesReversed(to, [], true)) {
      if (from !== undefined && key < from) return
      yield cell
    }
  } else {
    for (const [key, cell] of tree.entries(from, [])) {
      if (to !== undefined && key >= to) return
      yield cell
    }
  }
}
