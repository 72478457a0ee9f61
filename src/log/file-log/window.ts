import { HenceError } from '../../failure.ts'
import type { DiskFile } from './disk.ts'

const bytesMin = 64 * 1024
const bytesMax = 1024 * 1024

/**
 * The part of a file that is in memory while it is read forward. A reading begins with a small piece, for
 * those who want one record, and goes on with larger ones. Every piece is a buffer of its own, because the
 * records handed out are views of it.
 */
export class Window {
  bytes: Buffer = Buffer.alloc(0)
  #start = 0
  #pieceBytes = bytesMin
  readonly #file: DiskFile
  readonly #path: string

  constructor(file: DiskFile, path: string) {
    this.#file = file
    this.#path = path
  }

  /** Where in `bytes` a position of the file stands, if this many bytes from it on are there; else -1. */
  indexOf(position: number, length: number): number {
    const index = position - this.#start
    return index >= 0 && index + length <= this.bytes.length ? index : -1
  }

  /**
   * Moves to a position, with at least this many bytes if they stand before `limit` and the file has them.
   * @throws HenceError `log-read-failed` (retry)
   */
  async load(position: number, length: number, limit: number): Promise<void> {
    const wanted = Math.max(0, Math.min(Math.max(length, this.#pieceBytes), limit - position))
    const piece = Buffer.allocUnsafeSlow(wanted)
    let read: number
    try {
      read = await this.#file.read(piece, position)
    } catch (error) {
      throw readFailed(this.#path, error)
    }
    this.bytes = read === wanted ? piece : piece.subarray(0, read)
    this.#start = position
    this.#pieceBytes = Math.min(bytesMax, this.#pieceBytes * 4)
  }
}

/** The error for a file of the log that the operating system does not let us read. */
export function readFailed(path: string, cause: unknown): HenceError {
  return new HenceError(
    'log-read-failed',
    'retry',
    `The log could not read ${path}: ${(cause as Error).message}. ` +
      'Retry; if it stays so, look at the disk and the permissions.',
    { cause },
  )
}
