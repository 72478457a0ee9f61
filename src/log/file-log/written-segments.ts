import { ActiveSegment } from './active-segment.ts'
import { type BatchHeader, headerBytes, isContinued } from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import type { Findings } from './inspection.ts'
import { adoptSpare, growSegment, makeSpare, type PartitionFiles } from './partition-files.ts'
import type { Segment } from './segment.ts'
import { continuedIn, type Tip, tipAfter } from './tip.ts'

export interface WrittenSegmentsOptions {
  readonly files: PartitionFiles
  readonly segmentBytes: number
  /** Throws `data-taken` if another process has taken the directory. */
  readonly own: () => void
}

/** Where a segment of a copy ended when one with more room took its place; a reader may have it open. */
const outgrown = new WeakMap<Segment, number>()

/** The segments of a partition as one process writes them, from one recovery to the next. */
export class WrittenSegments {
  readonly #options: WrittenSegmentsOptions
  readonly #files: PartitionFiles
  #tip: Tip
  #list: readonly Segment[]
  /** By segment number: where some batches begin, as far as they have been written or read. */
  readonly #indexes = new Map<number, BatchIndex>()
  #active: ActiveSegment | undefined
  /** The next segment, made ahead of need; resolves to its size. */
  #spare: Promise<number> | undefined

  static async open(
    options: WrittenSegmentsOptions,
    { tip, segments, index }: Findings,
  ): Promise<WrittenSegments> {
    const opened = new WrittenSegments(options, tip, segments)
    opened.#indexes.set(segments.length - 1, index)
    await opened.#openActive()
    return opened
  }

  private constructor(options: WrittenSegmentsOptions, tip: Tip, list: readonly Segment[]) {
    this.#options = options
    this.#files = options.files
    this.#tip = tip
    this.#list = list
  }

  get tip(): Tip {
    return this.#tip
  }

  get list(): readonly Segment[] {
    return this.#list
  }

  get #last(): Segment {
    return this.#list.at(-1)!
  }

  /** Whether this many bytes fit into the last segment, and after them the seal that ends it. */
  roomFor(bytes: number): boolean {
    return this.#tip.position + bytes + headerBytes <= this.#last.size
  }

  indexOf({ number, baseOffset }: Segment): BatchIndex {
    const index = this.#indexes.get(number) ?? new BatchIndex(baseOffset)
    this.#indexes.set(number, index)
    return index
  }

  limitOf(segment: Segment): number {
    const { number, size } = this.#last
    if (segment.number === number && segment.size === size) return this.#tip.position
    return outgrown.get(segment) ?? segment.size
  }

  /** Writes a batch after the last one; `nextBytes` is the size of the segment that it continues in. */
  async add(
    batch: Buffer,
    header: BatchHeader,
    hash: Buffer,
    label: string,
    nextBytes = this.#options.segmentBytes,
  ): Promise<void> {
    const { epoch } = header
    const continued = isContinued(header)
    if (this.#files.isCopy && !continued && !this.roomFor(batch.length)) await this.#grow(batch.length)
    const { position, offset } = this.#tip
    const next = continued ? await this.#makeNext(nextBytes) : undefined
    await this.#active!.write(batch, epoch, label)
    this.indexOf(this.#last).add(offset, position)
    const tip = tipAfter(header, hash, position, batch.length)
    // Both at once, so that no reader finds a segment that continues in none.
    if (next !== undefined) this.#list = [...this.#list, next]
    this.#tip = next === undefined ? tip : continuedIn(tip)
    if (next !== undefined) await this.#openActive()
  }

  /** Makes the next segment ahead of need, if this many bytes more would fill half of the last one. */
  async makeSpare(bytes: number): Promise<void> {
    if (this.#tip.position + bytes <= this.#last.size / 2 || this.#spare !== undefined) return
    await this.#active!.check()
    this.#spare = makeSpare(this.#files, this.#options.segmentBytes)
    this.#spare.catch(() => undefined) // The batch that needs it tries again.
  }

  async check(): Promise<void> {
    const active = this.#active
    try {
      await active?.check()
    } catch (error) {
      // The partition may have left the segment meanwhile, and closed it.
      if (active === this.#active) throw error
    }
  }

  async close(): Promise<void> {
    await this.#spare?.catch(() => undefined)
    const active = this.#active
    this.#active = undefined
    await active?.close()
  }

  /** Makes the next segment. It has its name before the seal says so: a missing segment is always noticed. */
  async #makeNext(wanted: number): Promise<Segment> {
    let size = await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    await this.#active!.check()
    if (size === undefined || size < wanted) size = await makeSpare(this.#files, wanted)
    return adoptSpare(this.#files, this.#list.length, this.#tip.offset, size)
  }

  /** Puts a larger segment in the place of the last one, for a batch that no usual one has room for. */
  async #grow(bytes: number): Promise<void> {
    const { position } = this.#tip
    await this.#spare?.catch(() => undefined)
    this.#spare = undefined
    await this.#active!.check()
    const grown = await growSegment(this.#files, this.#last, position, position + bytes + 2 * headerBytes)
    outgrown.set(this.#last, position)
    this.#list = [...this.#list.slice(0, -1), grown]
    await this.#openActive()
  }

  async #openActive(): Promise<void> {
    const before = this.#active
    this.#active = undefined
    await before?.close()
    this.#active = await ActiveSegment.open(this.#files, this.#last, this.#tip.position, this.#options.own)
  }
}
