import { operatorError } from '../failure.ts'
import type { Log, Position } from './log.ts'
import { decodeRecord, type RequestRecord } from './record.ts'

/** A gap of up to this many records is read through; a larger one is skipped by a new reading. */
const passedMax = 200

interface RecordAt {
  readonly offset: number
  readonly bytes: Buffer
  readonly time: number
}

/**
 * Reads some records of a partition, in order. One call for many records costs far less than a reading for
 * each.
 * @param offsets ascending
 */
export async function* recordsAt(
  log: Log,
  partition: number,
  offsets: readonly number[],
): AsyncGenerator<RecordAt> {
  let at = 0
  while (at < offsets.length) {
    const before = at
    for await (const { offset: first, time, records } of log.read(partition, offsets[at]!)) {
      const end = first + records.length
      for (; at < offsets.length && offsets[at]! < end; at++) {
        const offset = offsets[at]!
        yield { offset, bytes: records[offset - first]!, time }
      }
      if (at === offsets.length || offsets[at]! - end > passedMax) break
    }
    if (at === before) throw otherRecord(partition, offsets[at]!, 'there, since state was derived from it')
  }
}

interface RequestAt extends Position {
  /** `partition:offset`. */
  readonly token: string
  readonly record: RequestRecord
}

/** Reads the requests among some records, each once. */
export async function* requestsAt(log: Log, positions: Iterable<Position>): AsyncGenerator<RequestAt> {
  for (const [partition, here] of Map.groupBy(positions, ({ partition }) => partition)) {
    const offsets = [...new Set(here.map(({ offset }) => offset))].sort((a, b) => a - b)
    for await (const { offset, bytes } of recordsAt(log, partition, offsets)) {
      const record = decodeRecord(bytes)
      if (record.kind === 'request') yield { partition, offset, token: `${partition}:${offset}`, record }
    }
  }
}

interface PendingRead {
  readonly offset: number
  resolve(record: RecordAt): void
  reject(error: unknown): void
}

/** The records of one round at most: a call that comes meanwhile waits for its end. */
const roundMax = 256

/** Reads single records. Calls that come during a round are served together in the next one. */
export class RecordReader {
  readonly #log: Log
  /** By partition: the calls for the next round. */
  readonly #waiting = new Map<number, PendingRead[]>()

  constructor(log: Log) {
    this.#log = log
  }

  read(partition: number, offset: number): Promise<RecordAt> {
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(partition) ?? []
      waiting.push({ offset, resolve, reject })
      if (this.#waiting.has(partition)) return
      this.#waiting.set(partition, waiting)
      void this.#work(partition, waiting)
    })
  }

  async #work(partition: number, waiting: PendingRead[]): Promise<void> {
    await undefined // Calls of one turn of the event loop are served together.
    while (waiting.length > 0) {
      const taken = waiting.splice(0, roundMax).sort((a, b) => a.offset - b.offset)
      for (let at = 0; at < taken.length; ) {
        const before = at
        try {
          const offsets = taken.slice(at).map(({ offset }) => offset)
          for await (const found of recordsAt(this.#log, partition, offsets)) taken[at++]!.resolve(found)
        } catch (error) {
          // A damaged record does not fail the others.
          if (at === before) taken[at++]!.reject(error)
        }
      }
    }
    this.#waiting.delete(partition)
  }
}

export const otherRecord = (partition: number, offset: number, what: string) =>
  operatorError(
    'log-damaged',
    `Record ${offset} of partition ${partition} should be ${what}, and is not. \`hence doctor\` shows ` +
      'what can be done.',
  )
