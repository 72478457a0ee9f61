import { HenceError } from '../failure.ts'
import type { Batch, Log } from './log.ts'
import { decodeRecord } from './record.ts'

/**
 * Where each partition of a log ended right after some records: the offset behind the last one that was there.
 *
 * A partition that is named ends behind its record. Of the others that is kept which has no later log time than the
 * latest record named: all that was durable before it, and maybe more of the same millisecond. From that, every event is
 * taken away whose cause is not there, with all that stands behind it; so a partition that is named may end earlier too, when
 * the records that are named were never the last ones at one time. A control record is there in all partitions or in none, with
 * all that stands before it in any.
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
  // Each goes on up to a control record, or to an event whose cause is still to come.
  for (let moves = true; moves; ) {
    moves = false
    for (const [partition, walk] of walks.entries()) {
      const before = walk.end
      ends[partition] = await walk.on(ends)
      if (walk.end > before) moves = true
    }
    // When none gets any further, the causes never come; but all may stand at one control record.
    if (!moves && arePassing(walks, named)) {
      for (const [partition, walk] of walks.entries()) ends[partition] = walk.pass()
      moves = true
    }
  }
  for (const walk of walks) await walk.close()
  return ends
}

/** Whether all stand at the same control record, and pass it: the partitions that are not named go with one that does. */
function arePassing(walks: readonly Walk[], named: ReadonlyMap<number, number>): boolean {
  const [first] = walks
  return (
    first!.control !== undefined &&
    walks.every(({ control }) => control === first!.control) &&
    walks.every((walk, partition) => walk.isKept || !named.has(partition)) &&
    walks.some(({ isKept }) => isKept)
  )
}

/** One partition, read from its beginning to where it has to end. */
class Walk {
  readonly #batches: AsyncIterator<Batch>
  readonly #limit: (offset: number, time: number) => boolean
  #batch: Batch | undefined
  #passed = -1
  /** The offset behind the last record that is there. */
  end = 0
  /** The number of the control record that it stands at. */
  control: number | undefined

  constructor(batches: AsyncIterable<Batch>, limit: (offset: number, time: number) => boolean) {
    this.#batches = batches[Symbol.asyncIterator]()
    this.#limit = limit
  }

  /** Whether the record that it stands at may be there, for what was asked. */
  get isKept(): boolean {
    return this.#limit(this.end, this.#batch!.time)
  }

  /** Goes on as far as the others have come; resolves to the offset behind the last record. */
  async on(ends: readonly number[]): Promise<number> {
    for (;;) {
      const at = this.end - (this.#batch?.offset ?? 0)
      if (this.#batch === undefined || at === this.#batch.records.length) {
        const { done, value } = await this.#batches.next()
        if (done) break
        this.#batch = value
        continue
      }
      const record = decodeRecord(this.#batch.records[at]!)
      if (record.kind === 'control' && record.control.number > this.#passed) {
        this.control = record.control.number
        break
      }
      if (!this.isKept) break
      if (record.kind === 'event' && record.causeOffset >= ends[record.causePartition]!) break
      this.end++
    }
    return this.end
  }

  /** Leaves the control record behind. */
  pass(): number {
    this.#passed = this.control!
    this.control = undefined
    return ++this.end
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
