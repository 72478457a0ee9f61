import { noRulings } from '../derivation/context.ts'
import { countOf, type Log, recordsOfKind } from '../log/log.ts'
import { decodeRecord, isAboutDerivation, type Ruling, type RulingRecord } from '../log/record.ts'
import type { DerivedAt } from '../sandbox/timed.ts'
import { positionNumber } from './event-order.ts'

/** Rulings and marks of the records ahead. A ruling comes after its record, so the log is searched ahead. */
export class Rulings {
  /** By the position of the record. */
  readonly #rulings = new Map<number, RulingRecord[]>()
  readonly #marked = new Set<number>()
  /** By partition: the offset up to which the log was searched. */
  readonly #searched: number[]

  constructor(partitions: number) {
    this.#searched = new Array(partitions).fill(0)
  }

  /** Searches a partition of the log from a position up to an offset, beyond what was searched before. */
  async search(log: Log, partition: number, position: number, to: number): Promise<void> {
    const from = Math.max(position, this.#searched[partition]!)
    if (from >= to) return
    for await (const batch of log.read(partition, from)) {
      for (const [offset, bytes] of recordsOfKind(batch, isAboutDerivation))
        if (offset >= from) this.note(partition, bytes)
      const end = batch.offset + countOf(batch)
      this.#searched[partition] = end
      if (end >= to) break
    }
  }

  /** Takes note of the bytes of a ruling or a mark in the log of a partition. */
  note(partition: number, bytes: Buffer): void {
    const record = decodeRecord(bytes)
    if (record.kind === 'mark') this.#marked.add(positionNumber(partition, record.mark.offset))
    if (record.kind !== 'ruling') return
    const at = positionNumber(partition, record.ruling.offset)
    this.#rulings.set(at, [...(this.#rulings.get(at) ?? []), record])
  }

  /** The rulings on a message that bind a version of the code in a generation. */
  on(at: () => DerivedAt, version: string, generation: number): readonly Ruling[] {
    if (this.#rulings.size === 0) return noRulings
    const { partition, offset, between } = at()
    const found = this.#rulings.get(positionNumber(partition, offset)) ?? []
    return found
      .filter((each) => each.generation <= generation)
      .map(({ ruling }) => ruling)
      .filter((ruling) => ruling.version === version && ruling.between === between)
  }

  /** Whether the derivation of a record took long but ended. */
  isMarked(partition: number, offset: number): boolean {
    return this.#marked.has(positionNumber(partition, offset))
  }

  /** Forgets a record, since it was applied. */
  passed(partition: number, offset: number): void {
    if (this.#rulings.size > 0) this.#rulings.delete(positionNumber(partition, offset))
    if (this.#marked.size > 0) this.#marked.delete(positionNumber(partition, offset))
  }
}
