import type { Clock } from '../clock.ts'

/**
 * The log contract: everything that the rest of Hence may ask of a log.
 *
 * A log has a fixed number of partitions. A partition is a totally ordered sequence of records, each at an
 * offset 0, 1, 2 … without gaps. A record is bytes; the log does not interpret it.
 *
 * Every log guarantees, and `logConformance` (in `test`) checks:
 *
 * - **Atomic.** The records of one `append` are next to each other in the log, or none of them is there.
 * - **Durable.** When `append` resolves, its records survive a crash of the process and, with an honest
 *   fsync, a loss of power.
 * - **In order of the calls.** Of two appends to one partition, the first call comes first in the log.
 * - **Time never goes backwards.** Within a partition log time never decreases. A record appended after
 *   another became durable, in any partition, never has an earlier time than that.
 * - **Nothing silent.** A damaged record is an error that names file and byte; it is never skipped.
 *
 * Callers guarantee that a log is open once at a time, and that buffers passed to `append` do not change
 * until it settles. Nobody checks whether records make sense.
 *
 * When `append` rejects, its records are in the log whole or not at all; the next `read` shows which. A log
 * recovers by itself on the next use, so the contract has no method for it. At-least-once appends are enough
 * for the rest of Hence, because derivations ignore duplicates.
 */
export interface Log {
  /** Made with the log and never changed: 32 lower-case hexadecimal digits. */
  readonly id: string
  /** The number of partitions, fixed when the log is made. */
  readonly partitions: number
  /**
   * Appends records, at least one, to a partition; resolves when they are durable.
   * @throws HenceError `log-write-failed` (retry), `log-closed` (retry), `record-too-large` (change)
   */
  append(partition: number, records: readonly Uint8Array[]): Promise<Appended>
  /**
   * All records of the partition below an offset were derived, and their outcomes may have been sent. The log
   * keeps this with what it writes next, and soon after the last append in any case. It never goes back.
   */
  derived?(partition: number, offset: number): void
  /**
   * From here on records get their times from another clock; a log without this method goes on with its own.
   * @returns the latest time in the log, 0 if it is empty
   */
  follow?(clock: Pick<Clock, 'now'>): number
  /** Returns the offset that was last kept by `derived`; a log without this method keeps none. */
  decided?(partition: number): Promise<number>
  /**
   * Reads the durable records from an offset on, in order, up to the end of the log when the reading gets
   * there. The first batch may begin before `from`, never after it.
   * @throws HenceError `log-damaged` (operator), `offset-out-of-range` (operator) if `from` is past the end
   */
  read(partition: number, from: number): AsyncIterable<Batch>
  /** Returns the offset of the next durable record. */
  end(partition: number): Promise<number>
  /** Waits for pending appends, then releases the log. Later calls throw `log-closed`. */
  close(): Promise<void>
}

/** The position and time of an append. */
export interface Appended {
  /** The offset of its first record; the others follow without a gap. */
  readonly offset: number
  /** Log time of all its records, in milliseconds since 1970. */
  readonly time: number
  /** The batch that they were written in, if the log is a chain of hashes. */
  readonly batch?: Link
}

/** The place of a batch in the chain of hashes of its partition. */
export interface Link {
  /** The offset of the first record of the batch. */
  readonly offset: number
  /** The hash that covers everything in the partition before the batch, 32 bytes. */
  readonly hash: Buffer
}

/** Records that became durable together. */
export interface Batch {
  /** The offset of the first record. */
  readonly offset: number
  /** Log time of all its records, in milliseconds since 1970. */
  readonly time: number
  /** The hash, of 32 bytes, that covers all of the partition before the batch, if the log is a chain. */
  readonly before?: Buffer
  readonly records: readonly Buffer[]
  /** The first byte of each record, which says its kind; where they are known without `records`. */
  readonly kinds?: Uint8Array
}

export const countOf = (batch: Batch): number => (batch.kinds ?? batch.records).length

/** The records of a batch whose kind is wanted, each with its offset. */
export function* recordsOfKind(
  batch: Batch,
  isWanted: (kind: number | undefined) => boolean,
): Iterable<[offset: number, bytes: Buffer]> {
  const kinds = batch.kinds ?? batch.records.map(([kind]) => kind)
  for (let i = 0; i < kinds.length; i++) if (isWanted(kinds[i])) yield [batch.offset + i, batch.records[i]!]
}

/** The largest record a log takes, in bytes. */
export const recordBytesMax = 16 * 1024 * 1024

/** Reads a position like `0:1234`; undefined if it is none of a log with so many partitions. */
export function positionOf(token: string, partitions: number): Position | undefined {
  const [, partition, offset] = /^(\d{1,4}):(\d{1,16})$/.exec(token)?.map(Number) ?? []
  if (partition === undefined || offset === undefined || partition >= partitions) return undefined
  return { partition, offset }
}

/** The position of a record in a log. */
export interface Position {
  readonly partition: number
  readonly offset: number
}
