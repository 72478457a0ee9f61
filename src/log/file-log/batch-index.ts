import { segmentHeaderBytes } from './segment.ts'

/** How far apart the remembered batches of a segment stand: what a read of one record may have to walk. 1 MB for each GB of log. */
const gapBytes = 16 * 1024

/**
 * Where some batches of a segment begin, so that a read of one record need not walk through the whole
 * segment. It is learned by whoever writes or walks the segment from front to back.
 */
export class BatchIndex {
  readonly #offsets: number[]
  readonly #positions: number[]

  constructor(baseOffset: number) {
    this.#offsets = [baseOffset]
    this.#positions = [segmentHeaderBytes]
  }

  /** Takes note that the batch at a position begins with an offset, if it is far enough from the last one. */
  note(offset: number, position: number): void {
    if (position < this.#positions.at(-1)! + gapBytes) return
    this.#offsets.push(offset)
    this.#positions.push(position)
  }

  /** The last known batch that begins at or before an offset. */
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
