/**
 * The store contract: what the state asks of the place where its checkpoints are.
 *
 * A store is a fixed set of named collections; a collection maps keys to texts, in the order of the keys.
 * Keys are latin1 strings, one character a byte; values are well-formed text.
 *
 * What every store guarantees:
 *
 * - **Atomic.** All of a `write`, over all its collections, or nothing of it; after a crash as well.
 * - **Durable.** When `write` resolves, what it wrote survives a crash of the process and a loss of power.
 * - **Seen from then on.** Reads after `write` resolved see it. While it is under way a read sees either all
 *   of it or nothing.
 * - **Nothing silent.** What cannot be read is an error, never a missing key.
 *
 * What callers guarantee: one open store per place and one `write` at a time; that a range is used up, or
 * left, before control goes back to the event loop; that a collection was named when the store was opened.
 * `write` goes through its changes before it returns its promise.
 *
 * When `write` rejects, nothing of it was written, or, after a failed disk, it is unknown whether all of it
 * was; the same changes may be written again. All a store holds is derived and can be derived again.
 */
export interface Store {
  /** @throws HenceError `state-unreadable` (operator) */
  get(collection: string, key: string): string | undefined
  /**
   * Goes through keys in order, or in the opposite one.
   * @throws HenceError `state-unreadable` (operator)
   */
  range(collection: string, options?: KeyRange): Iterable<[key: string, value: string]>
  /**
   * Sets keys to values, given as text or as its bytes in UTF-8, and removes those whose value is undefined.
   * Bytes must not change until the write is through.
   */
  write(changes: Iterable<CollectionChanges>): Promise<void>
  /**
   * All that the store has now, for reading while writes go on: none of them is seen in it. It keeps room on the disk occupied, so
   * it is closed as soon as it is not needed any more, and before the store.
   */
  view(): StoreView
  /** Waits for a write under way, then releases the store. */
  close(): Promise<void>
}

/** A store as it was at one moment. Here a range may stay open while control goes back to the event loop. */
export interface StoreView extends Pick<Store, 'get' | 'range'> {
  close(): void
}

/** A range of keys. */
export interface KeyRange {
  /** The least key, included. */
  readonly from?: string | undefined
  /** The end, not included. */
  readonly to?: string | undefined
  /** From the greatest key down. */
  readonly reverse?: boolean | undefined
}

/** What changes in one collection. */
export type CollectionChanges = readonly [
  collection: string,
  entries: Iterable<readonly [key: string, value: string | Buffer | undefined]>,
]
