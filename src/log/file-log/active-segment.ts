import { assert } from '../../assert.ts'
import { HenceError, operatorError, retryError } from '../../failure.ts'
import { reasonText } from '../../file-failure.ts'
import { headerBytes, readHeader } from './batch.ts'
import type { Disk, DiskFile } from './disk.ts'
import type { PartitionFiles } from './partition-files.ts'
import type { Segment } from './segment.ts'

/** The bytes before the end of the last batch that must be there when the next one is written. */
const tailBytes = 32

/**
 * The last segment of a partition, open for writing. No write is acknowledged unless the segment is as this
 * process left it: before the write its last batch is there, and only zeros after it; after the write, while
 * the disk syncs, its path still leads to the open file, and that has its size. These are two system calls on
 * cached data, some microseconds a batch.
 */
export class ActiveSegment {
  readonly segment: Segment
  readonly #files: PartitionFiles
  readonly #file: DiskFile
  readonly #id: string
  readonly #own: () => void
  /** Where the last batch ends; the header of the segment while that is empty. */
  #position: number
  /** The bytes that must be there: the last ones before it, and zeros in the place of the next header. */
  readonly #expected = Buffer.alloc(tailBytes + headerBytes)
  readonly #found = Buffer.alloc(tailBytes + headerBytes)

  /** @param own throws if another process has taken the directory */
  static async open(
    files: PartitionFiles,
    segment: Segment,
    position: number,
    own: () => void,
  ): Promise<ActiveSegment> {
    // The carrier has what a copy may lose, so its writes wait for no disk.
    const file = await files.disk.open(segment.path, files.isCopy ? 'write' : 'append')
    try {
      const { id } = await file.identify()
      const opened = new ActiveSegment(files, segment, file, { id, own, position })
      await file.read(opened.#expected.subarray(0, tailBytes), position - tailBytes)
      return opened
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(
    files: PartitionFiles,
    segment: Segment,
    file: DiskFile,
    { id, own, position }: { id: string; own: () => void; position: number },
  ) {
    this.segment = segment
    this.#files = files
    this.#file = file
    this.#id = id
    this.#own = own
    this.#position = position
  }

  /**
   * Writes a batch after the last one, and makes it durable; in a copy, `close` does.
   * @param epoch of this process, to name a writer that came after it
   * @throws HenceError `data-lost`, `data-taken` (operator); then the batch is not acknowledged
   */
  async write(batch: Buffer, epoch: number, label: string): Promise<void> {
    const position = this.#position
    assert(position + batch.length <= this.segment.size, 'a batch fits into its segment', batch.length)
    this.#own()
    await this.#checkEnd(this.#expected, this.#found, epoch)
    await this.#file.write(batch, position)
    // The carrier has what the copy may lose.
    const synced = this.#files.isCopy ? Promise.resolve() : this.#file.sync(label)
    synced.catch(() => {}) // Awaited below.
    try {
      // A process that takes the directory from here on finds the batch.
      this.#own()
      await this.#checkPath()
    } finally {
      await synced
    }
    batch.copy(this.#expected, 0, batch.length - tailBytes)
    this.#position = position + batch.length
  }

  async check(): Promise<void> {
    this.#own()
    await this.#checkPath()
    // A write that ends meanwhile moves the end.
    const tail = Buffer.from(this.#expected.subarray(0, tailBytes))
    await this.#checkEnd(tail, Buffer.alloc(tailBytes))
  }

  async close(): Promise<void> {
    try {
      if (this.#files.isCopy) await this.#file.sync('copy')
    } finally {
      await this.#file.close()
    }
  }

  async #checkPath(): Promise<void> {
    const { path, size } = this.segment
    const found = await this.#files.disk.identify(path)
    if (found === undefined) throw lost(path, 'it is gone')
    if (found.id !== this.#id) throw lost(path, 'another file has its name')
    if (found.size !== size) throw lost(path, `it has ${found.size} bytes instead of ${size}`)
  }

  /**
   * Checks the end of the last batch and, with a buffer for its header, that nobody has written the next one.
   * @param epoch of this process
   */
  async #checkEnd(expected: Buffer, found: Buffer, epoch = 0): Promise<void> {
    const position = this.#position
    const isWhole = (await this.#file.peek(found, position - tailBytes)) === found.length
    if (isWhole && found.equals(expected)) return
    if (!isWhole) await this.#checkPath()
    const { path } = this.segment
    if (found.compare(expected, 0, tailBytes, 0, tailBytes) !== 0)
      throw lost(path, `the bytes before byte ${position} are not those that were written`)
    const header = readHeader(found, tailBytes, this.#files.lineage)
    if (header === undefined) throw lost(path, `something else was written at byte ${position}`)
    throw overtaken(path, position, header.epoch, epoch)
  }
}

export async function checkExists(disk: Disk, path: string): Promise<void> {
  if ((await disk.identify(path)) === undefined) throw lost(path, 'it is gone')
}

export const lost = (path: string, what: string) =>
  operatorError(
    'data-lost',
    `The log is not as this process left it, in ${path}: ${what}. Nothing more is acknowledged, and what ` +
      'was may be lost. Keep the files as they are, find out what changed them, and run `hence doctor`; ' +
      'then restore a backup if need be.',
  )

export const overtaken = (path: string, position: number, epoch: number, own: number) =>
  operatorError(
    'data-taken',
    `Another process writes ${path}: the batch at byte ${position} has epoch ${epoch}, and this process has ${own}. ` +
      'This process writes nothing more; stop it.',
  )

/** Whether an error says that this process must not write the log any more. */
export function isFinal(error: unknown): error is HenceError {
  return error instanceof HenceError && finalCodes.has(error.code)
}

const finalCodes: ReadonlySet<string> = new Set([
  'data-lost',
  'data-taken',
  'log-taken',
  'carrier-lost-records',
  'carrier-damaged',
])

export const writeFailed = (directory: string, cause: unknown) =>
  retryError(
    'log-write-failed',
    `The log could not write to ${directory}: ${reasonText(cause)} ` +
      'The records being written are in the log whole or not at all; retry, and the log recovers first.',
    { cause },
  )
