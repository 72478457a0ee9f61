/**
 * The log contract: all that the rest of Hence may ask of a log.
 *
 * A log is a fixed number of partitions; a partition is a totally ordered sequence of records, each at an
 * offset 0, 1, 2 … without gaps. A record is bytes; the log does not look into it.
 *
 * What every log guarantees, and `logConformance` (in `hence/testing`) checks:
 *
 * - **Atomic.** The records of one `append` stand next to each other in the log, or none of them does.
 * - **Durable.** When `append` resolves, its records survive a crash of the process and, with an honest
 *   fsync, a loss of power.
 * - **In order of the calls.** Of two appends to one partition, the one called first stands first.
 * - **Time never goes backwards.** Within a partition log time never decreases; a record appended after
 *   another became durable, in whatever partition, is never stamped earlier than that other.
 * - **Nothing silent.** A damaged record is an error that names the place, never skipped.
 *
 * What callers guarantee: one open log per place at a time, and that buffers handed to `append` are not
 * changed until it settles. What goes unchecked: whether records mean anything.
 *
 * When `append` rejects, the fate of its records is unknown: they are in the log whole or not at all, and
 * the next `read` tells which. A log mends itself on the next use; there is no method for it. At-least-once
 * appends are enough for the rest of Hence, since duplicates are the derivation's business.
 */
export interface Log {
  /** Made with the log and never changed: 32 lower-case hexadecimal digits. */
  readonly id: string
  /** The number of partitions, fixed when the log is made. */
  readonly partitions: number
  /**
   * Appends records (at least one) to a partition; resolves when they are durable.
   * @throws HenceError `log-write-failed` (retry), `log-closed` (retry), `record-too-large` (change)
   */
  append(partition: number, records: readonly Uint8Array[]): Promise<Appended>
  /**
   * Reads the durable records from an offset on, in order, up to where the log ended when the reading
   * reached it. The first batch may begin before `from`, never after it.
   * @throws HenceError `log-damaged` (operator), `offset-out-of-range` (operator) when `from` is past the end
   */
  read(partition: number, from: number): AsyncIterable<Batch>
  /** The offset that the next durable record will get. */
  end(partition: number): Promise<number>
  /** Waits for what was appended, then releases the log. Later calls throw `log-closed`. */
  close(): Promise<void>
}

/** Where an append came to stand. */
export interface Appended {
  /** The offset of its first record; the others follow without a gap. */
  readonly offset: number
  /** Log time of all its records, in milliseconds since 1970. */
  readonly time: number
}

/** Records that became durable together. */
export interface Batch {
  /** The offset of the first record. */
  readonly offset: number
  /** Log time of all its records, in milliseconds since 1970. */
  readonly time: number
  readonly records: readonly Buffer[]
}

/** The largest record a log takes, in bytes. */
export const recordBytesMax = 16 * 1024 * 1024

/** Where a record stands. */
export interface Position {
  readonly partition: number
  readonly offset: number
}
