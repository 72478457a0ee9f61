/**
 * A carrier: an engine of the field that stores the batches of a log, so that several machines can reach it
 * (a table of PostgreSQL, a topic of Kafka). It appends opaque bytes in one order a partition and reads them
 * back from a position. It knows nothing of records; the chain over it (`file-log/`) decides what counts.
 *
 * The chain's one rule, the same for every reader: **of the batches that name the hash of the head, the first
 * in the order of the carrier follows the head; every other one is dead** and skipped. So a batch that comes
 * late, twice, or from a process that does not know that another has taken over changes nothing, and a
 * process that wants to know what became of an append of unknown fate appends another one on the same head
 * and reads which came first.
 *
 * Every carrier guarantees, and `carrierConformance` of `hence/testing` checks, as `carrierDuel` and
 * `carrierFailover` do for whole logs:
 *
 * - **One order.** Every reader of a partition finds the same batches at the same positions, and a batch that
 *   was read once stays there.
 * - **Durable.** A batch whose position was returned survives what the carrier promises to survive.
 * - **Whole.** A batch is there with all its bytes or not at all.
 *
 * It need not guarantee that an append which rejected is absent, now or later, nor that it is there once.
 */
export interface Carrier {
  /** For messages: the place, without any password. */
  readonly name: string
  /** The largest batch that it takes, in bytes; at least one with the largest record, `recordBytesMax`. */
  readonly batchBytesMax: number
  /**
   * Returns the facts of the log that never change. Where there are none, keeps the ones given; of two that
   * try at once one wins, and both get its facts.
   * @throws HenceError `carrier-unusable` (operator), `carrier-unreachable` (retry)
   */
  facts(made?: CarrierFacts): Promise<CarrierFacts | undefined>
  /**
   * Appends a batch to a partition.
   * @param expected the position that it gets if nobody else has appended
   * @returns the position that it has got; undefined if the place was taken, and it is certain that the batch
   *   is not there and never will be
   * @throws HenceError `carrier-unreachable` (retry): the fate of the batch is unknown, it may still come;
   *   `carrier-unusable` (operator): it was refused, with what to do
   */
  append(partition: number, batch: CarrierBatch, expected: number): Promise<number | undefined>
  /** Reads a partition from a position on, in order, up to what was its end when the reading got there. */
  read(partition: number, from: number): AsyncIterable<CarriedBatch>
  /** Returns the position after the last batch of a partition. */
  end(partition: number): Promise<number>
  /** Returns what `end` does, of all partitions at once. Without it a standby reads each to see what is new. */
  ends?(): Promise<readonly number[]>
  /**
   * Keeps bytes under a name, beside the log, in place of earlier ones: bundles of code, and who is active.
   * The last writer wins; nothing that must not be lost or overtaken rests on it alone.
   */
  put(name: string, bytes: Uint8Array): Promise<void>
  get(name: string): Promise<Buffer | undefined>
  /** Ends its connections; a later call opens it again. */
  close(): Promise<void>
}

/** The facts about a log that never change. */
export interface CarrierFacts {
  /** 32 lower-case hexadecimal digits. */
  readonly logId: string
  readonly partitions: number
  /** The size of a segment in the local copy, so that every copy has the same bytes. */
  readonly segmentBytes: number
}

/** A batch as the chain wrote it, and what a carrier may use to keep the order of the chain by itself. */
export interface CarrierBatch {
  readonly bytes: Buffer
  /** The hash of the batch before, 32 bytes; zero in the first batch of a partition. */
  readonly before: Buffer
  /** The hash of this batch, 32 bytes. */
  readonly hash: Buffer
  /** The offset of its first record; a batch without records has that of the next one. */
  readonly offset: number
}

/** A batch and its position: a number that grows along the partition, not always by one. */
export interface CarriedBatch {
  readonly position: number
  readonly bytes: Buffer
}
