import type { Hash, HashList } from './tree.ts'

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
