import type { EventHead } from '../log/record.ts'

/**
 * Which events of the live generation their targets have passed, for a generation that is not live. An event
 * may stand in the log twice, and the first place counts, whether the second is read ahead then or later.
 */
export class PassedEvents {
  readonly #partitions: number
  #generation = 0
  /** By channel. */
  readonly #counts = new Map<number, number>()

  constructor(partitions: number) {
    this.#partitions = partitions
  }

  has(target: number, { generation, causePartition, channelNumber }: EventHead): boolean {
    const count =
      generation === this.#generation ? this.#counts.get(this.#channel(causePartition, target)) : 0
    return channelNumber < (count ?? 0)
  }

  add(target: number, event: EventHead): void {
    if (this.has(target, event)) return
    const { generation, causePartition, channelNumber } = event
    // No other generation is live at the same time.
    if (generation !== this.#generation) this.#counts.clear()
    this.#generation = generation
    this.#counts.set(this.#channel(causePartition, target), channelNumber + 1)
  }

  /** For a checkpoint. */
  save(): SavedPassedEvents {
    return { generation: this.#generation, counts: [...this.#counts] }
  }

  restore({ generation, counts }: SavedPassedEvents): void {
    this.#generation = generation
    this.#counts.clear()
    for (const [channel, count] of counts) this.#counts.set(channel, count)
  }

  #channel(source: number, target: number): number {
    return source * this.#partitions + target
  }
}

export interface SavedPassedEvents {
  readonly generation: number
  readonly counts: readonly (readonly [channel: number, count: number])[]
}
