/**
 * Cells by key, in insertion order: a hash table with open addressing.
 *
 *   slots    per slot, the hash of a key and its index in `cells` plus 1; 0: free
 *   cells    in insertion order; undefined where one was removed, until the next rehash
 *
 * A `Map` needs a third of the lines, but with many keys it spends most of its time waiting for memory: it
 * follows a chain of entries, and the key of each, to compare hashes. Here the hashes are adjacent, so most
 * lookups read one slot, and the garbage collector need not visit the slots.
 */
export class CellMap<Cell extends { readonly key: string; readonly hash: number }> {
  #slots = new Int32Array(2 * slotsMin)
  #cells: (Cell | undefined)[] = []
  #size = 0

  get size(): number {
    return this.#size
  }

  /** @param hash `hashOf(key)` */
  get(key: string, hash: number): Cell | undefined {
    const mask = this.#slots.length - 1
    for (let at = (2 * hash) & mask; ; at = (at + 2) & mask) {
      const number = this.#slots[at + 1]!
      if (number === 0) return undefined
      if (this.#slots[at] !== hash) continue
      const cell = this.#cells[number - 1]
      if (cell !== undefined && cell.key === key) return cell
    }
  }

  /** Adds a cell whose key is not in the map. */
  add(cell: Cell): void {
    if (4 * this.#cells.length >= this.#slots.length) this.#renew()
    this.#cells.push(cell)
    this.#size++
    this.#place(cell.hash, this.#cells.length)
  }

  remove(cell: Cell): void {
    const { hash } = cell
    const mask = this.#slots.length - 1
    let at = (2 * hash) & mask
    while (this.#slots[at] !== hash || this.#cells[this.#slots[at + 1]! - 1] !== cell) at = (at + 2) & mask
    this.#cells[this.#slots[at + 1]! - 1] = undefined
    this.#size--
  }

  /** All cells, in insertion order. */
  all(): Cell[] {
    return this.#cells.filter((cell) => cell !== undefined)
  }

  #place(hash: number, number: number): void {
    const mask = this.#slots.length - 1
    let at = (2 * hash) & mask
    while (this.#slots[at + 1] !== 0) at = (at + 2) & mask
    this.#slots[at] = hash
    this.#slots[at + 1] = number
  }

  /** Drops removed cells, and makes room for twice as many cells as there are. */
  #renew(): void {
    this.#cells = this.all()
    let slots = slotsMin
    while (slots < 4 * this.#size) slots *= 2
    this.#slots = new Int32Array(2 * slots)
    let number = 0
    for (const cell of this.#cells) this.#place(cell!.hash, ++number)
  }
}

/** A power of two, like every number of slots. */
const slotsMin = 16

/** Different in every process, so that no client can choose keys that collide. */
const seed = Math.trunc(Math.random() * 2 ** 32)

/** FNV-1a, with the upper half mixed into the lower half, which selects the slot. */
export function hashOf(key: string): number {
  let hash = seed
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return hash ^ (hash >>> 15)
}
