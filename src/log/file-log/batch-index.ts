import { segmentHeaderBytes } from './segment.ts'

/** The distance between remembered batches, which a read may have to walk. Costs 1 MB per GB of log. */
const gapBytes = 16 * 1024

/** Where some batches of a segment begin, for reads of one record. Writing and reading add to it. */
export class BatchIndex {
  readonly #offsets: number[]
  readonly #positions: number[]

  constructor(baseOffset: number) {
    this.#offsets = [baseOffset]
    this.#positions = [segmentHeaderBytes]
  }

  /** Remembers where the batch of an offset begins, if it is far enough from the last one remembered. */
  add(offset: number, position: number): void {
    if (position < this.#positions.at(-1)! + gapBytes) return
    this.#offsets.push(offset)
    this.#positions.push(position)
  }

  /** Returns the last known batch that begins at or before an offset. */
  find(offset: number): { offset: number; position: number } {
    let low = 0
    let high = this.#offsets.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#offsets[middle]! <= offset) low = middle
      else high = middle
    }
    return { offset: this.#offsets[low]!, position: this.#positions[low]! }
  }
}
