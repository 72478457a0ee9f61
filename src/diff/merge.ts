import type { App } from '../app/index.ts'
import { canonicalJson } from '../state/digest.ts'
import type { Store } from '../state/store.ts'
import type { BeforeAfter, Difference } from './difference.ts'

/** One side of a comparison: an app, and everything that it has derived, saved by a checkpoint. */
export interface ComparedSide {
  readonly app: App
  /** Opened with at least the collections that `comparedCollections` returns. */
  readonly store: Pick<Store, 'range'>
}

/** A key whose text differs between two collections; undefined where a collection has no such key. */
export interface UnequalEntry {
  readonly key: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/** A collection of texts, ordered by key. */
export type Entries = Iterable<readonly [key: string, text: string]>

/** How many keys are compared between two yields of `undefined`. */
const entriesPerStep = 500

/**
 * Merges two ordered collections and yields the keys whose texts differ, in order. A pair of equal texts
 * (nearly all are) costs one comparison. Yields `undefined` now and then, where the caller may let others
 * work.
 */
export function* unequalEntries(before: Entries, after: Entries): Generator<UnequalEntry | undefined> {
  const a = before[Symbol.iterator]()
  const b = after[Symbol.iterator]()
  try {
    let was = a.next()
    let is = b.next()
    let walked = 0
    while (!was.done || !is.done) {
      if (++walked % entriesPerStep === 0) yield undefined
      if (is.done || (!was.done && was.value[0] < is.value[0])) {
        yield { key: was.value![0], before: was.value![1], after: undefined }
        was = a.next()
      } else if (was.done || is.value[0] < was.value[0]) {
        yield { key: is.value[0], before: undefined, after: is.value[1] }
        is = b.next()
      } else {
        if (was.value[1] !== is.value[1]) {
          yield { key: is.value[0], before: was.value[1], after: is.value[1] }
        }
        was = a.next()
        is = b.next()
      }
    }
  } finally {
    // A store's cursor stays open until its range is exhausted or returned from.
    a.return?.()
    b.return?.()
  }
}

/** How two collections are compared whose texts stand for values. */
interface Comparison<Value> {
  /** The value of a text on a side; undefined if that side has none. */
  read(text: string | undefined, side: 'before' | 'after', key: string): Value | undefined
  /** The part of a value that decides whether two differ; default all of it. The order of fields does not count. */
  compared?(value: Value): unknown
  difference(key: string, sides: BeforeAfter<Value>): Difference | undefined
}

/** Yields what differs between two collections, and `undefined` now and then; see `unequalEntries`. */
export function* differences<Value>(
  before: Entries,
  after: Entries,
  { read, compared = (value) => value, difference }: Comparison<Value>,
): Generator<Difference | undefined> {
  for (const entry of unequalEntries(before, after)) {
    if (entry === undefined) {
      yield undefined
      continue
    }
    const was = read(entry.before, 'before', entry.key)
    const is = read(entry.after, 'after', entry.key)
    const isOnBoth = was !== undefined && is !== undefined
    if (isOnBoth && canonicalJson(compared(was)) === canonicalJson(compared(is))) continue
    const sides = { ...(was !== undefined && { before: was }), ...(is !== undefined && { after: is }) }
    const found = difference(entry.key, sides)
    if (found !== undefined) yield found
  }
}
