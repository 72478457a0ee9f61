import { HenceError } from '../failure.ts'
import type { Batch, Log } from './log.ts'
import { decodeRecord } from './record.ts'

/**
 * Where each partition of a log ended right after some records: the offset behind the last one that was there.
 *
 * A partition that is named ends behind its record. Of the others that is kept which has no later log time than the
 * latest record named: all that was durable before it, and maybe more of the same millisecond. From that, every event is
 * taken away whose cause is not there, with all that stands behind it; so a partition that is named may end earlier too, when
 * the records that are named were never the last ones at one time.
 *
 * @param named by partition, the offset of the record
 * @throws HenceError `token-unknown` (change), and what reading the log throws
 */
export async function endsRightAfter(log: Log, named: ReadonlyMap<number, number>): Promise<number[]> {
  let until = 0
  for (const [partition, offset] of named) until = Math.max(until, await timeOf(log, partition, offset))
  const ends = new Array<number>(log.partitions).fill(0)
  const walks = ends.map((_, partition) => {
    const last = named.get(partition)
    return new Walk(log.read(partition, 0), (offset, time) =>
      last === undefined ? time <= until : offset <= last,
    )
  })
  // Each goes on up to an event whose cause is still to come. When none gets any further, those causes never come.
  for (let moves = true; moves; ) {
    moves = false
    for (const [partition, walk] of walks.entries()) {
      const before = ends[partition]!
      ends[partition] = await walk.on(ends)
      if (ends[partition]! > before) moves = true
    }
  }
  for (const walk of walks) await walk.close()
  return ends
}

/** One partition, read from its beginning to where it has to end. */
class Walk {
  readonly #batches: AsyncIterator<Batch>
  readonly #isKept: (offset: number, time: number) => boolean
  #batch: Batch | undefined
  #offset = 0

  constructor(batches: AsyncIterable<Batch>, isKept: (offset: number, time: number) => boolean) {
    this.#batches = batches[Symbol.asyncIterator]()
    this.#isKept = isKept
  }

  /** Goes on as far as the others have come; resolves to the offset behind the last record. */
  async on(ends: readonly number[]): Promise<number> {
    for (;;) {
      const at = this.#offset - (this.#batch?.offset ?? 0)
      if (this.#batch === undefined || at === this.#batch.records.length) {
        const { done, value } = await this.#batches.next()
        if (done) break
        this.#batch = value
        continue
      }
      if (!this.#isKept(this.#offset, this.#batch.time)) break
      const record = decodeRecord(this.#batch.records[at]!)
      if (record.kind === 'event' && record.causeOffset >= ends[record.causePartition]!) break
      this.#offset++
    }
    return this.#offset
  }

  async close(): Promise<void> {
    await this.#batches.return?.()
  }
}

/** The log time of a record. */
async function timeOf(log: Log, partition: number, offset: number): Promise<number> {
  if (partition < log.partitions && offset < (await log.end(partition))) {
    for await (const { time } of log.read(partition, offset)) return time
  }
  throw new HenceError(
    'token-unknown',
    'change',
    `The log has no record ${partition}:${offset}. \`hence log cat\` shows which there are, with their tokens.`,
  )
}
