/**
 * Cells by their keys, and in the order in which they were added: a hash table with open addressing.
 *
 *   places   for each slot the hash of a key and its number in `cells` plus 1; 0: a free slot
 *   cells    in their order; undefined where one was removed, until the table is made anew
 *
 * A `Map` does the same in a third of the lines, but with many keys most of its time goes into waiting for
 * memory: it follows a chain of entries, and of each one the key, to compare the hash. Here hashes stand
 * together, so that one look at a slot tells, and the collector need not go through the slots.
 */
export class CellMap<Cell extends { readonly key: string }> {
  #places = new Int32Array(2 * slotsMin)
  #cells: (Cell | undefined)[] = []
  #size = 0

  get size(): number {
    return this.#size
  }

  get(key: string): Cell | undefined {
    const hash = hashOf(key)
    const mask = this.#places.length - 1
    for (let at = (2 * hash) & mask; ; at = (at + 2) & mask) {
      const number = this.#places[at + 1]!
      if (number === 0) return undefined
      if (this.#places[at] !== hash) continue
      const cell = this.#cells[number - 1]
      if (cell !== undefined && cell.key === key) return cell
    }
  }

  /** Adds a cell whose key is not there. */
  add(cell: Cell): void {
    if (4 * this.#cells.length >= this.#places.length) this.#renew()
    this.#cells.push(cell)
    this.#size++
    this.#place(hashOf(cell.key), this.#cells.length)
  }

  /** Removes a cell that is there. */
  remove(cell: Cell): void {
    const hash = hashOf(cell.key)
    const mask = this.#places.length - 1
    let at = (2 * hash) & mask
    while (this.#places[at] !== hash || this.#cells[this.#places[at + 1]! - 1] !== cell) at = (at + 2) & mask
    this.#cells[this.#places[at + 1]! - 1] = undefined
    this.#size--
  }

  /** All cells, in the order in which they were added. */
  all(): Cell[] {
    return this.#cells.filter((cell) => cell !== undefined)
  }

  #place(hash: number, number: number): void {
    const mask = this.#places.length - 1
    let at = (2 * hash) & mask
    while (this.#places[at + 1] !== 0) at = (at + 2) & mask
    this.#places[at] = hash
    this.#places[at + 1] = number
  }

  /** Leaves out what was removed, and makes room for as much again as there is. */
  #renew(): void {
    const places = this.#places
    const hashes = new Int32Array(this.#cells.length)
    for (let at = 0; at < places.length; at += 2) {
      if (places[at + 1] !== 0) hashes[places[at + 1]! - 1] = places[at]!
    }
    const before = this.#cells
    this.#cells = this.all()
    let slots = slotsMin
    while (slots < 4 * this.#size) slots *= 2
    this.#places = new Int32Array(2 * slots)
    let number = 0
    for (const [i, cell] of before.entries()) if (cell !== undefined) this.#place(hashes[i]!, ++number)
  }
}

/** A power of two, as every number of slots. */
const slotsMin = 16

/** Another one in every process, so that nobody can send keys that are known to fall into one slot. */
const seed = Math.trunc(Math.random() * 2 ** 32)

/** FNV-1a, with the upper half mixed into the lower one, which chooses the slot. */
function hashOf(key: string): number {
  let hash = seed
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return hash ^ (hash >>> 15)
}
