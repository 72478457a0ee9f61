import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'

/** Lines gather up to so many characters before they are written. */
const gatheredMax = 256 * 1024

/**
 * Lines that are made in one go, and faster than a client reads them: they go to a file of no name, so memory stays bounded,
 * and nothing is left behind whatever becomes of this process.
 */
export class Spool {
  readonly #file: number
  #gathered = ''

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'hence-'))
    this.#file = openSync(join(folder, 'lines'), 'wx+', 0o600)
    rmSync(folder, { recursive: true })
  }

  add(line: string): void {
    this.#gathered += `${line}\n`
    if (this.#gathered.length > gatheredMax) this.#flush()
  }

  /** All lines, from the first; the file goes when they are read to their end or left. */
  stream(): ReadableStream<Uint8Array> {
    this.#flush()
    const file = createReadStream('', { fd: this.#file, start: 0 })
    return Readable.toWeb(file) as ReadableStream<Uint8Array>
  }

  /** Lets the file go unread. */
  drop(): void {
    closeSync(this.#file)
  }

  #flush(): void {
    const bytes = Buffer.from(this.#gathered)
    this.#gathered = ''
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at)
  }
}
