import commonJs from 'sorted-btree'
import { compareKeys } from './keys.ts'

/** A map in key order: a B+ tree. */
// The package is CommonJS compiled from a module, so its class is the default of the default export.
export class SortedMap<V> extends commonJs.default<string, V> {
  constructor() {
    super(undefined, compareKeys)
  }
}
