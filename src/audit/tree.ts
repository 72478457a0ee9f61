import { sha256 } from '../sha256.ts'

/** A hash of the tree: 32 bytes of SHA-256. */
export type Hash = Buffer

/** The list in which a tree keeps the hashes of its whole subtrees; it only ever appends. */
interface HashList {
  readonly length: number
  at(index: number): Hash
  push(hash: Hash): void
}

/**
 * The Merkle tree over the records of a partition, as RFC 9162 (2.1) and RFC 6962 define it: a leaf is the
 * hash of the byte 0 and a record, a node that of the byte 1 and its two children.
 *
 * The tree keeps the hashes of whole subtrees in the order in which they became whole: after the leaf that
 * completes them, the smallest first. Such a hash never changes, so a record appends two hashes on average to
 * a file, and any root or proof, of this tree or an earlier one, reads a few dozen of them.
 *
 *   records        0  1     2  3        4
 *   kept hashes    0  1 01  2  3 23 03  4
 */
export class Tree {
  readonly #hashes: HashList
  #size: number

  /** Continues a kept tree; hashes after its last whole leaf, left by a crash, must have been removed. */
  constructor(hashes: HashList, size = 0) {
    if (hashes.length !== hashesOf(size))
      throw new RangeError(`${size} leaves do not have ${hashes.length} hashes`)
    this.#hashes = hashes
    this.#size = size
  }

  get size(): number {
    return this.#size
  }

  append(record: Uint8Array): void {
    let subtree = leafHash(record)
    this.#hashes.push(subtree)
    let leaves = 1
    for (let left = this.#size; left % 2 === 1; left = (left - 1) / 2) {
      subtree = nodeHash(this.#whole(this.#size + 1 - 2 * leaves, leaves), subtree)
      this.#hashes.push(subtree)
      leaves *= 2
    }
    this.#size++
  }

  leaf(index: number): Hash {
    this.#check(index, this.#size - 1)
    return this.#whole(index, 1)
  }

  /** Returns the root of the tree, or of the tree of its first leaves. */
  root(size = this.#size): Hash {
    this.#check(size, this.#size)
    return size === 0 ? emptyRoot : this.#subtree(0, size)
  }

  /** Returns the inclusion path of a leaf in the tree of the first `size` leaves, upwards (RFC 9162). */
  inclusion(index: number, size = this.#size): Hash[] {
    this.#check(size, this.#size)
    this.#check(index, size - 1)
    const path: Hash[] = []
    let [from, to] = [0, size]
    while (to - from > 1) {
      const middle = from + leftLeaves(to - from)
      if (index < middle) {
        path.push(this.#subtree(middle, to))
        to = middle
      } else {
        path.push(this.#subtree(from, middle))
        from = middle
      }
    }
    return path.reverse()
  }

  /** Returns the path that proves that the tree of `to` leaves extends that of `from` (RFC 9162). */
  consistency(from: number, to = this.#size): Hash[] {
    this.#check(to, this.#size)
    this.#check(from, to)
    const path: Hash[] = []
    if (from === 0) return path
    let [low, high] = [0, to]
    while (from !== high) {
      const middle = low + leftLeaves(high - low)
      if (from <= middle) {
        path.push(this.#subtree(middle, high))
        high = middle
      } else {
        path.push(this.#subtree(low, middle))
        low = middle
      }
    }
    // The verifier has the hash of the remaining subtree only if that is the whole earlier tree.
    if (low > 0) path.push(this.#subtree(low, high))
    return path.reverse()
  }

  /** Returns the hash over the leaves of a range, as the tree splits it. */
  #subtree(from: number, to: number): Hash {
    const leaves = to - from
    const left = leftLeaves(leaves)
    if (leaves === 1 || left * 2 === leaves) return this.#whole(from, leaves)
    return nodeHash(this.#subtree(from, from + left), this.#subtree(from + left, to))
  }

  /** Returns the kept hash of the subtree of `leaves` leaves, a power of two, that begins with the leaf `from`. */
  #whole(from: number, leaves: number): Hash {
    // It follows its last leaf, after the smaller subtrees that this leaf completed.
    return this.#hashes.at(hashesOf(from + leaves - 1) + Math.log2(leaves))
  }

  #check(value: number, max: number): void {
    if (!Number.isSafeInteger(value) || value < 0 || value > max)
      throw new RangeError(`${value} is not in the tree`)
  }
}

export function hashesOf(size: number): number {
  let count = 0
  for (let level = size; level > 0; level = Math.floor(level / 2)) count += level
  return count
}

/** The root of a tree without a leaf: the hash of nothing. */
const emptyRoot: Hash = sha256('')

export function leafHash(record: Uint8Array): Hash {
  const bytes = Buffer.allocUnsafe(record.length + 1)
  bytes[0] = 0
  bytes.set(record, 1)
  return sha256(bytes)
}

export function nodeHash(left: Hash, right: Hash): Hash {
  pair.set(left, 1)
  pair.set(right, 33)
  return sha256(pair)
}

const pair = Buffer.alloc(65, 1)

/** Returns the leaves in the left half of a tree: the largest power of two below their number. */
function leftLeaves(leaves: number): number {
  let left = 1
  while (left * 2 < leaves) left *= 2
  return left
}

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

/** Hashes in memory: for a log in memory, and for a tree that is built once to be compared. */
export function hashMemory(): HashList {
  const hashes: Hash[] = []
  return {
    get length() {
      return hashes.length
    },
    at: (index) => hashes[index]!,
    push: (hash) => void hashes.push(hash),
  }
}
