import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Lines are buffered up to this many characters before they are written. */
const bufferedMax = 256 * 1024

/** Lines made faster than a client reads them, in an unlinked file: memory stays bounded, nothing is left. */
export class Spool {
  readonly #file: number
  #buffered = ''
  #isRead = false

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'hence-'))
    this.#file = openSync(join(folder, 'lines'), 'wx+', 0o600)
    rmSync(folder, { recursive: true })
  }

  add(line: string): void {
    this.#buffered += `${line}\n`
    if (this.#buffered.length > bufferedMax) this.#flush()
  }

  /** All lines, from the first. The file is freed when they end or are left. */
  async *texts(): AsyncGenerator<string> {
    this.#isRead = true
    this.#flush()
    yield* createReadStream('', { fd: this.#file, start: 0, encoding: 'utf8' })
  }

  /** Frees the file if it is not read. */
  drop(): void {
    if (!this.#isRead) closeSync(this.#file)
  }

  #flush(): void {
    const bytes = Buffer.from(this.#buffered)
    this.#buffered = ''
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at)
  }
}
