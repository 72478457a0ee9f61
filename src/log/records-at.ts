import { HenceError } from '../failure.ts'
import type { Log } from './log.ts'

/** Up to so many records are rather passed by than left out by a reading of its own. */
const passedMax = 200

/** A record, and the log time of it. */
export interface Found {
  readonly offset: number
  readonly bytes: Buffer
  readonly time: number
}

/**
 * Reads some records of a partition, in their order; many of them cost far less than as many readings.
 * @param offsets ascending
 * @throws HenceError `log-damaged`, `offset-out-of-range` (operator), `log-read-failed` (retry)
 */
export async function* recordsAt(
  log: Log,
  partition: number,
  offsets: readonly number[],
): AsyncGenerator<Found> {
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
    if (at === before) {
      throw otherRecord(partition, offsets[at]!, 'there, since something was derived from it')
    }
  }
}

interface Waiting {
  readonly offset: number
  resolve(found: Found): void
  reject(error: unknown): void
}

/** So many are read in one round at most: whoever comes meanwhile waits for it. */
const roundMax = 256

/** Reads single records: those that are asked for while others are read are read together in the next round. */
export class RecordReader {
  readonly #log: Log
  /** By partition: what is to be read next. */
  readonly #waiting = new Map<number, Waiting[]>()

  constructor(log: Log) {
    this.#log = log
  }

  /** @throws HenceError `log-damaged`, `offset-out-of-range` (operator), `log-read-failed` (retry) */
  read(partition: number, offset: number): Promise<Found> {
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(partition) ?? []
      waiting.push({ offset, resolve, reject })
      if (this.#waiting.has(partition)) return
      this.#waiting.set(partition, waiting)
      void this.#work(partition, waiting)
    })
  }

  async #work(partition: number, waiting: Waiting[]): Promise<void> {
    await undefined // What is asked for in the same turn is read together.
    while (waiting.length > 0) {
      const taken = waiting.splice(0, roundMax).sort((a, b) => a.offset - b.offset)
      for (let at = 0; at < taken.length; ) {
        const before = at
        try {
          const offsets = taken.slice(at).map(({ offset }) => offset)
          for await (const found of recordsAt(this.#log, partition, offsets)) taken[at++]!.resolve(found)
        } catch (error) {
          // A record that is damaged does not stand in the way of others.
          if (at === before) taken[at++]!.reject(error)
        }
      }
    }
    this.#waiting.delete(partition)
  }
}

export function otherRecord(partition: number, offset: number, what: string): HenceError {
  return new HenceError(
    'log-damaged',
    'operator',
    `Record ${offset} of partition ${partition} should be ${what}, and is not. \`hence doctor\` tells what can be done.`,
  )
}
