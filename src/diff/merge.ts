import type { Store } from '../state/store.ts'

/** A key under which two collections hold different texts; undefined where one of them holds none. */
export interface Unequal {
  readonly key: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/** Any ordered collection of texts. */
type Entries = Iterable<readonly [key: string, text: string]>

/** What a store is compared by. */
export type Readable = Pick<Store, 'range'>

/** After so many keys whoever goes through them may do something else. */
const entriesAtOnce = 500

/**
 * Walks through two ordered collections at once and gives the keys under which their texts differ, in order. Equal texts,
 * mostly all of them, cost a comparison and nothing else. Now and then it gives `undefined`, so that others can work between
 * two steps.
 */
export function* unequal(before: Entries, after: Entries): Generator<Unequal | undefined> {
  const a = before[Symbol.iterator]()
  const b = after[Symbol.iterator]()
  try {
    let was = a.next()
    let is = b.next()
    let walked = 0
    while (!was.done || !is.done) {
      if (++walked % entriesAtOnce === 0) yield undefined
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
    // A store's cursor stays open as long as its range is neither used up nor left.
    a.return?.()
    b.return?.()
  }
}
