import { type FileHandle, open, readFile, rename } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { HenceError } from '../failure.ts'
import { holdFile } from '../storage/file-lock.ts'
import type { OpenOutbox, Outbox, StoredRequest } from './outbox.ts'

/** The file is rewritten when it has this many more lines than twice its open requests. */
const spareLines = 1_000

/**
 * An outbox in a file, for one client at a time, which a lock file beside it ensures. Requests whose `add` resolved
 * survive a killed process and a power loss. The file is JSON Lines, appended to until it is rewritten:
 *
 *   {"stored":{"requestId":…,"type":…,"input":…,"queue":…,"since":…}}
 *   {"settled":"<request id>"}
 *
 * @throws HenceError when it is opened: `outbox-damaged` (operator), `outbox-failed` (retry)
 */
export function file(path: string): Outbox {
  return {
    async open() {
      let held: ReturnType<typeof holdFile>
      try {
        held = holdFile(`${resolve(path)}.lock`)
        if (held === undefined) throw new Error('another process, or another client, has it open')
        return await FileOutbox.open(resolve(path), held.release)
      } catch (error) {
        held?.release()
        throw error instanceof HenceError ? error : failed(path, error)
      }
    },
  }
}

class FileOutbox implements OpenOutbox {
  readonly #path: string
  readonly #closed: () => void
  readonly #stored: Map<string, StoredRequest>
  #file: FileHandle
  /** Lines in the file. */
  #lines: number
  #gathered: Gathered | undefined
  #writing: Promise<void> | undefined
  #broken: unknown

  static async open(path: string, closed: () => void): Promise<FileOutbox> {
    const text = await readFile(path, 'utf8').catch((error) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
      throw error
    })
    const stored = read(path, text)
    return new FileOutbox(path, closed, stored, await writeAnew(path, stored))
  }

  private constructor(
    path: string,
    closed: () => void,
    stored: Map<string, StoredRequest>,
    handle: FileHandle,
  ) {
    this.#path = path
    this.#closed = closed
    this.#stored = stored
    this.#file = handle
    this.#lines = stored.size
  }

  async list(): Promise<readonly StoredRequest[]> {
    return [...this.#stored.values()]
  }

  async add(request: StoredRequest): Promise<void> {
    if (this.#stored.has(request.requestId)) return
    await this.#write({ stored: request })
  }

  async remove(requestId: string): Promise<void> {
    if (this.#stored.has(requestId)) await this.#write({ settled: requestId })
  }

  async close(): Promise<void> {
    while (this.#writing) await this.#writing.catch(() => {})
    await this.#file.close()
    this.#closed()
  }

  /** Lines added while others are being written are written together, with one sync. */
  #write(line: Line): Promise<void> {
    this.#gathered ??= { lines: [], written: Promise.withResolvers() }
    const { lines, written } = this.#gathered
    lines.push(line)
    this.#writing ??= this.#writeAll()
    return written.promise
  }

  async #writeAll(): Promise<void> {
    // Lines of one turn of the event loop are written together.
    await undefined
    for (let next = this.#gathered; next !== undefined; next = this.#gathered) {
      this.#gathered = undefined
      const { lines, written } = next
      try {
        if (this.#broken) throw this.#broken
        await this.#file.appendFile(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
        // A lost removal does no harm, so it waits for no sync.
        if (lines.some((line) => 'stored' in line)) await this.#file.datasync()
        this.#lines += lines.length
        for (const line of lines) keep(this.#stored, line)
        written.resolve()
      } catch (error) {
        // After a failed write the file's content is unknown, and a second sync that succeeds would prove nothing; so
        // nothing more is written until the file has been opened and read again.
        this.#broken = error
        written.reject(failed(this.#path, error))
      }
      await this.#compactIfDue()
    }
    this.#writing = undefined
  }

  async #compactIfDue(): Promise<void> {
    if (this.#broken || this.#lines < 2 * this.#stored.size + spareLines) return
    try {
      const handle = await writeAnew(this.#path, this.#stored)
      await this.#file.close()
      this.#file = handle
      this.#lines = this.#stored.size
    } catch (error) {
      this.#broken = error
    }
  }
}

interface Gathered {
  readonly lines: Line[]
  readonly written: PromiseWithResolvers<void>
}

type Line = { readonly stored: StoredRequest } | { readonly settled: string }

/** Reads a file; a last line that was cut short was never acknowledged, and is left out. */
function read(path: string, text: string): Map<string, StoredRequest> {
  const stored = new Map<string, StoredRequest>()
  const lines = text.split('\n')
  // After the last line feed there is nothing, or part of a line that a crash cut short.
  lines.pop()
  for (const [i, line] of lines.entries()) {
    const entry = parsed(line)
    if (entry === undefined) {
      // A power loss can tear lines that were written together; then no line after the torn one is complete. A
      // complete line proves that all lines before it were synced.
      if (lines.slice(i + 1).every((later) => parsed(later) === undefined)) break
      throw damaged(path, i + 1)
    }
    keep(stored, entry)
  }
  return stored
}

function keep(stored: Map<string, StoredRequest>, line: Line): void {
  if ('stored' in line) stored.set(line.stored.requestId, line.stored)
  else stored.delete(line.settled)
}

function parsed(line: string): Line | undefined {
  try {
    const entry = JSON.parse(line)
    if (typeof entry?.settled === 'string' || typeof entry?.stored?.requestId === 'string') return entry
  } catch {}
  return undefined
}

/** Replaces the file by one with only the open requests, and returns it open for appending. */
async function writeAnew(path: string, stored: ReadonlyMap<string, StoredRequest>): Promise<FileHandle> {
  const text = [...stored.values()].map((each) => `${JSON.stringify({ stored: each })}\n`).join('')
  const handle = await open(`${path}.new`, 'w', 0o600)
  try {
    await handle.appendFile(text)
    await handle.sync()
    await rename(`${path}.new`, path)
    // Windows has no fsync of a directory, and needs none.
    if (process.platform !== 'win32') {
      const directory = await open(dirname(path), 'r')
      await directory.sync().finally(() => directory.close())
    }
    return handle
  } catch (error) {
    await handle.close()
    throw error
  }
}

function damaged(path: string, line: number): HenceError {
  return new HenceError(
    'outbox-damaged',
    'operator',
    `Line ${line} of the outbox ${path} is not one that was written there, and lines after it are. Nothing is skipped: ` +
      'mend the line, or take it out if it cannot be read, and open the outbox again.',
  )
}

function failed(path: string, cause: unknown): HenceError {
  return new HenceError(
    'outbox-failed',
    'retry',
    `The outbox ${path} cannot be used: ${cause instanceof Error ? cause.message : cause}. Nothing was sent that it does ` +
      'not hold. Mend the cause, and open it again.',
    { cause },
  )
}
