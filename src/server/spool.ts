import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'

/** Lines are buffered up to this many characters before they are written. */
const bufferedMax = 256 * 1024

/**
 * Lines that are produced faster than a client reads them: an unlinked file holds them, so memory stays bounded and
 * nothing is left behind if the process dies.
 */
export class Spool {
  readonly #file: number
  #buffered = ''

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'hence-'))
    this.#file = openSync(join(folder, 'lines'), 'wx+', 0o600)
    rmSync(folder, { recursive: true })
  }

  add(line: string): void {
    this.#buffered += `${line}\n`
    if (this.#buffered.length > bufferedMax) this.#flush()
  }

  /** All lines, from the first. The file is freed when the stream ends or is cancelled. */
  stream(): ReadableStream<Uint8Array> {
    this.#flush()
    const file = createReadStream('', { fd: this.#file, start: 0 })
    return Readable.toWeb(file) as ReadableStream<Uint8Array>
  }

  /** Frees the file without reading it. */
  drop(): void {
    closeSync(this.#file)
  }

  #flush(): void {
    const bytes = Buffer.from(this.#buffered)
    this.#buffered = ''
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at)
  }
}
