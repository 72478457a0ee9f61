import { assert } from '../assert.ts'
import type { Link } from '../log/log.ts'

/** How far a processor is: positions and log times. */
export class Positions {
  /** The offset of the record that each partition applies next. */
  readonly next: number[]
  /** By partition: log time of the last record, in milliseconds since 1970. */
  readonly times: number[]
  /** By partition: the last batch that was derived from, with its place in the chain of hashes. */
  readonly links: (Link | undefined)[]
  /** Log time of the latest record of all. */
  time = 0

  constructor(partitions: number) {
    this.next = new Array(partitions).fill(0)
    this.times = new Array(partitions).fill(0)
    this.links = new Array(partitions).fill(undefined)
  }

  checkNext(partition: number, offset: number): void {
    const next = this.next[partition]
    assert(offset === next, 'a partition applies the record at its position next', offset, next)
  }

  /** A time has come in a partition, by a record or by a message between two records. */
  reach(partition: number, time: number): void {
    this.times[partition] = Math.max(this.times[partition]!, time)
    this.time = Math.max(this.time, time)
  }

  /** Passes a record without deriving it. */
  pass(partition: number, offset: number, time: number): void {
    this.checkNext(partition, offset)
    this.reach(partition, time)
    this.next[partition]!++
  }

  restore({ positions, times, time }: SavedPositions, links: readonly (Link | undefined)[]): void {
    this.links.splice(0, this.links.length, ...links)

    this.next.splice(0, this.next.length, ...positions)
    this.times.splice(0, this.times.length, ...times)
    this.time = time
  }
}

interface SavedPositions {
  readonly positions: readonly number[]
  readonly times: readonly number[]
  readonly time: number
}
