import { type Identity, identitiesBefore } from '../identity.ts'
import type { Watermark } from '../log/record.ts'

/** The last watermark of a partition, and the log time of its record. */
export interface SavedWatermark extends Watermark {
  readonly at: number
}

/** By partition: how far it has forgotten the ids of requests. The log says so, never what is still stored. */
export class Watermarks {
  readonly #last: SavedWatermark[]
  /** By partition: the end of the range of the identities that are forgotten. */
  readonly #ends: Identity[]
  /** Some partition forgets ids that are older; asked for with every request. */
  #highest = 0

  constructor(partitions: number) {
    this.#last = new Array(partitions).fill({ before: 0, time: 0, at: 0 })
    this.#ends = this.#last.map(({ before }) => identitiesBefore(before))
  }

  get last(): readonly SavedWatermark[] {
    return this.#last
  }

  /** A partition applies a watermark; it never goes back. */
  apply(partition: number, at: number, { before, time }: Watermark): void {
    const last = this.#last[partition]!
    this.#set(partition, { before: Math.max(before, last.before), time: Math.max(time, last.time), at })
  }

  /** Whether a request in the log of a partition derives nothing because its id is too old. */
  forgets(partition: number, identity: Identity): boolean {
    return identity < this.#ends[partition]!
  }

  /** All partitions forget ids that are older. */
  get lowest(): number {
    return Math.min(...this.#last.map(({ before }) => before))
  }

  get highest(): number {
    return this.#highest
  }

  restore(saved: readonly SavedWatermark[]): void {
    for (const [partition, last] of saved.entries()) this.#set(partition, last)
  }

  #set(partition: number, last: SavedWatermark): void {
    this.#last[partition] = last
    this.#ends[partition] = identitiesBefore(last.before)
    this.#highest = Math.max(...this.#last.map(({ before }) => before))
  }
}
