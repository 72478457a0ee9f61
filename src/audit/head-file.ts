import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { realDisk } from '../log/file-log/disk.ts'
import { headLine, parseHead, type SignedHead } from './head.ts'

/** The first piece that is read from the end of a file: with one partition a dozen heads. */
const tailBytesMin = 4096

/** Signed heads in a file, a line each, the newest last; Hence only ever appends to it. */
export class HeadFile {
  readonly #file: FileHandle
  /** The bytes of whole lines. */
  #bytes: number
  /** Whether a write has failed, so that part of it may be in the file. */
  #isTorn = false
  /** The newest when it was opened. */
  readonly last: SignedHead | undefined

  /**
   * Opens or makes the file. Cuts off a line that a crash left unfinished: nobody has seen that head.
   * @param mode the permissions of a new file
   * @throws HenceError `head-invalid` (change) if its last line is no head
   */
  static async open(path: string, mode = 0o600): Promise<HeadFile> {
    const file = await open(path, 'a+', mode)
    try {
      const { size } = await file.stat()
      if (size === 0) await realDisk.syncDirectory(dirname(path), 'heads')
      const { line, end } = await lastLine(file, size)
      return new HeadFile(file, end, line === '' ? undefined : parseHead(line))
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(file: FileHandle, bytes: number, last: SignedHead | undefined) {
    this.#file = file
    this.#bytes = bytes
    this.last = last
  }

  /** Makes a head durable. It can be called again after it has failed. */
  async add(head: SignedHead): Promise<void> {
    const line = Buffer.from(`${headLine(head)}\n`)
    if (this.#isTorn) await this.#file.truncate(this.#bytes)
    this.#isTorn = true
    await this.#file.appendFile(line)
    await this.#file.datasync()
    this.#isTorn = false
    this.#bytes += line.length
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** Returns the last whole line and the byte after it, and cuts off what follows. */
async function lastLine(
  file: FileHandle,
  size: number,
): Promise<{ readonly line: string; readonly end: number }> {
  for (let bytes = tailBytesMin; ; bytes *= 4) {
    const tail = Buffer.alloc(Math.min(size, bytes))
    await file.read(tail, 0, tail.length, size - tail.length)
    const end = tail.lastIndexOf('\n') + 1
    const start = end > 1 ? tail.lastIndexOf('\n', end - 2) + 1 : 0
    // The line is whole if a line break comes before it, or if this is the whole file.
    if (start === 0 && tail.length < size) continue
    if (end < tail.length) await file.truncate(size - tail.length + end)
    return { line: tail.toString('utf8', start, Math.max(0, end - 1)), end: size - tail.length + end }
  }
}

/**
 * Reads the heads in a file, the oldest first; leaves out an unfinished last line.
 * @throws HenceError `head-invalid` (change)
 */
export async function* readHeads(path: string): AsyncGenerator<SignedHead> {
  // A process may be appending one right now, so a line counts once another follows it, or if it ends like a
  // head.
  let line: string | undefined
  for await (const next of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (line !== undefined) yield parseHead(line)
    line = next
  }
  if (line?.endsWith('}')) yield parseHead(line)
}

/** The partitions of all returned heads together at most, to bound the memory that they take. */
const headPartitionsMax = 100_000

/**
 * Returns the newest head of a file and others, spread over it evenly; all of them if they are not too many.
 * Everything that a head vouches for, each later one vouches for too; more heads only narrow down where
 * something was changed.
 * @throws HenceError `head-invalid` (change)
 */
export async function someHeads(path: string): Promise<SignedHead[]> {
  let heads: SignedHead[] = []
  let newest: SignedHead | undefined
  let [seen, step] = [0, 1]
  for await (const head of readHeads(path)) {
    newest = head
    if (seen++ % step > 0) continue
    heads.push(head)
    if (heads.length * Math.max(1, head.partitions.length) <= headPartitionsMax) continue
    heads = heads.filter((_, i) => i % 2 === 0)
    step *= 2
  }
  return newest === undefined || heads.at(-1) === newest ? heads : [...heads, newest]
}
