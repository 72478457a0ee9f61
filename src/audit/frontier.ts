import { emptyRoot, type Hash, leafHash, nodeHash } from './tree.ts'

/** Computes the root of a growing tree in one pass over the records, without keeping its inner nodes. */
export class Frontier {
  /** The roots of the whole subtrees, the largest first: one for each binary digit 1 of the size. */
  readonly #subtrees: Hash[] = []
  #size = 0

  get size(): number {
    return this.#size
  }

  append(record: Uint8Array): void {
    let hash = leafHash(record)
    for (let left = this.#size; left % 2 === 1; left = (left - 1) / 2) {
      hash = nodeHash(this.#subtrees.pop()!, hash)
    }
    this.#subtrees.push(hash)
    this.#size++
  }

  root(): Hash {
    return this.#subtrees.length === 0
      ? emptyRoot
      : this.#subtrees.reduceRight((right, left) => nodeHash(left, right))
  }
}
