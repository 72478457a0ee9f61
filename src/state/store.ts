/**
 * The store contract: storage for checkpoints of the state.
 *
 * A store is a fixed set of named collections; a collection maps keys to texts, in key order. Keys are latin1
 * strings, one character per byte; values are well-formed text.
 *
 * Every store guarantees:
 *
 * - **Atomic.** A `write` applies to all its collections or to none, also after a crash.
 * - **Durable.** When `write` resolves, its changes survive a crash of the process and a power loss.
 * - **Visible.** Reads after `write` resolved see its changes. Meanwhile a read sees all of them or none.
 * - **Nothing silent.** Unreadable data is an error, never a missing key.
 *
 * Callers guarantee: one open store per directory and one `write` at a time; a range iteration ends before
 * control returns to the event loop; every collection was named when the store was opened. `write` iterates
 * over its changes in many turns of the event loop, so they are those of one moment.
 *
 * When `write` rejects, its changes were not applied, or, after a disk failure, it is unknown whether all
 * were; the same changes may be written again. Everything in a store can be derived again from the log.
 */
export interface Store {
  /** @throws HenceError `state-unreadable` (operator) */
  get(collection: string, key: string): string | undefined
  /**
   * Iterates over keys in order, or in reverse.
   * @throws HenceError `state-unreadable` (operator)
   */
  range(collection: string, options?: KeyRange): Iterable<[key: string, value: string]>
  /**
   * Sets keys to values, given as text, as its UTF-8 bytes, or as these `compressed`, and removes the keys
   * whose value is undefined.
   * The bytes must not change until `write` resolves.
   */
  write(changes: Iterable<CollectionChanges>): Promise<void>
  /**
   * Opens a snapshot for reading, unaffected by later writes. It occupies disk space, so close it as soon as
   * it is no longer needed, and before the store.
   */
  view(): StoreView
  /** Waits for a write under way, then closes the store. */
  close(): Promise<void>
}

/** A store as of one moment. Its range iterations may span turns of the event loop. */
export interface StoreView extends Pick<Store, 'get' | 'range'> {
  close(): void
}

export interface KeyRange {
  /** The lower bound, inclusive. */
  readonly from?: string | undefined
  /** The upper bound, exclusive. */
  readonly to?: string | undefined
  /** Whether to iterate from the greatest key down. */
  readonly reverse?: boolean | undefined
}

export type CollectionChanges = readonly [
  collection: string,
  entries: Iterable<readonly [key: string, value: string | Buffer | undefined]>,
]
