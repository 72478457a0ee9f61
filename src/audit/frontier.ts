import { emptyRoot, type Hash, leafHash, nodeHash } from './tree.ts'

/** The root of a growing tree, and nothing of its inside: for whoever goes through all records once. */
export class Frontier {
  /** The whole subtrees that the leaves make up, the largest first; each has as many leaves as a digit of the size says. */
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
