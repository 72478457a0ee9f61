import { type Hash, leafHash, nodeHash } from './tree.ts'

/**
 * Returns the root that an inclusion path leads to (RFC 9162, 2.1.3.2); undefined if the path does not fit
 * such a tree. The record is in the tree if that is the root of the tree.
 */
export function rootOfInclusion(
  record: Uint8Array,
  index: number,
  size: number,
  path: readonly Hash[],
): Hash | undefined {
  if (!isCount(index) || !isCount(size) || index >= size) return undefined
  let [at, last] = [index, size - 1]
  let root = leafHash(record)
  for (const sibling of path) {
    if (last === 0) return undefined
    if (at % 2 === 1 || at === last) {
      root = nodeHash(sibling, root)
      // A node without a right neighbour goes up unchanged until it has a left one.
      while (at % 2 === 0 && at > 0) [at, last] = [at / 2, half(last)]
    } else {
      root = nodeHash(root, sibling)
    }
    ;[at, last] = [half(at), half(last)]
  }
  return last === 0 ? root : undefined
}

interface TreeView {
  readonly size: number
  readonly root: Hash
}

/** Whether a consistency path proves that a later tree only adds leaves to an earlier one (RFC 9162, 2.1.4.2). */
export function isConsistent(earlier: TreeView, later: TreeView, path: readonly Hash[]): boolean {
  if (!isCount(earlier.size) || !isCount(later.size) || earlier.size > later.size) return false
  if (earlier.size === later.size) return path.length === 0 && earlier.root.equals(later.root)
  if (earlier.size === 0) return path.length === 0
  let [at, last] = [earlier.size - 1, later.size - 1]
  while (at % 2 === 1) [at, last] = [half(at), half(last)]
  // When the earlier tree is one whole subtree of the later one, the path leaves its root out.
  const steps = at === 0 ? [earlier.root, ...path] : [...path]
  const first = steps.shift()
  if (first === undefined) return false
  let [before, after] = [first, first]
  for (const step of steps) {
    if (last === 0) return false
    if (at % 2 === 1 || at === last) {
      before = nodeHash(step, before)
      after = nodeHash(step, after)
      while (at % 2 === 0 && at > 0) [at, last] = [at / 2, half(last)]
    } else {
      after = nodeHash(after, step)
    }
    ;[at, last] = [half(at), half(last)]
  }
  return last === 0 && before.equals(earlier.root) && after.equals(later.root)
}

const half = (value: number): number => Math.floor(value / 2)

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0
