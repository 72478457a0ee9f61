import { assert } from '../assert.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { CorrectionRecord } from '../log/record.ts'

/** Which corrections of the last promotion were applied. */
export class AppliedCorrections {
  readonly #lineage: readonly number[]
  /** By partition: the number of the last correction, or -1. */
  readonly #last: number[]
  #count = 0

  /** @param lineage see `lineageOf` */
  constructor(lineage: readonly number[], partitions: number) {
    this.#lineage = lineage
    this.#last = new Array(partitions).fill(-1)
  }

  /** How many were applied, in all partitions. */
  get count(): number {
    return this.#count
  }

  /** The number of the last correction that a partition has applied, or -1. */
  last(partition: number): number {
    return this.#last[partition]!
  }

  /** Whether to apply a correction: the last promotion's, not applied yet, of this generation's line. */
  isNext(partition: number, record: CorrectionRecord, history: readonly ControlFact[]): boolean {
    const { promotion, n } = record.correction
    const last = history.findLast(({ type }) => type === 'promotion')
    if (promotion !== last?.number || n <= this.#last[partition]!) return false
    for (const generation of this.#lineage) {
      if (generation === record.generation) return true
      // Corrections after this generation took the place were made in its tables, not those before.
      if (history.some((fact) => fact.type === 'promotion' && fact.generation === generation)) return false
    }
    return false
  }

  applied(partition: number, n: number): void {
    assert(n > this.#last[partition]!, 'corrections are applied in the order of their numbers', n)
    this.#last[partition] = n
    this.#count++
  }

  /** Another promotion has its own corrections. */
  restart(): void {
    this.#last.fill(-1)
    this.#count = 0
  }

  /** For a checkpoint. */
  save(): { readonly corrected: readonly number[]; readonly correctedCount: number } {
    return { corrected: [...this.#last], correctedCount: this.#count }
  }

  restore({ corrected, correctedCount }: ReturnType<AppliedCorrections['save']>): void {
    this.#last.splice(0, this.#last.length, ...corrected)
    this.#count = correctedCount
  }
}
