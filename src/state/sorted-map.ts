import commonJs from 'sorted-btree'
import { compareKeys } from './keys.ts'

// The package is CommonJS compiled from a module: its class is the default of the default export, except in
// Bun, which unwraps it.
const BTree = commonJs.default ?? (commonJs as unknown as typeof commonJs.default)

/** A map in key order: a B+ tree. */
export class SortedMap<V> extends BTree<string, V> {
  constructor() {
    super(undefined, compareKeys)
  }
}
