import commonJs from 'sorted-btree'
import { compareKeys } from './keys.ts'

/** A map in the order of its keys: a B+ tree. */
// The package is CommonJS that was made from a module, so its class is the default of the default.
export class SortedMap<V> extends commonJs.default<string, V> {
  constructor() {
    super(undefined, compareKeys)
  }
}
