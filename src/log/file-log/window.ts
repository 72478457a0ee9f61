import { retryError } from '../../failure.ts'
import { reasonText } from '../../file-failure.ts'
import type { DiskFile } from './disk.ts'

const bytesMin = 64 * 1024
const bytesMax = 1024 * 1024

/**
 * The part of a file that is in memory while the file is read forward. It begins with a small piece, for
 * readers that want one record, and continues with larger ones. Each piece is a new buffer, because records
 * are returned as views.
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

  /** Returns the index in `bytes` of a position, if this many bytes from it on are in memory; else -1. */
  indexOf(position: number, length: number): number {
    const index = position - this.#start
    return index >= 0 && index + length <= this.bytes.length ? index : -1
  }

  /** Moves to a position, with at least this many bytes if the file has them before `limit`. */
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

export const readFailed = (path: string, cause: unknown) =>
  retryError(
    'log-read-failed',
    `The log could not read ${path}: ${reasonText(cause)} ` +
      'Retry; if it fails again, check the disk and the permissions.',
    { cause },
  )
