import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { realDisk } from '../log/file-log/disk.ts'
import { headLine, parseHead, type SignedHead } from './head.ts'

/** What is read from the end of a file at first: with one partition this is a dozen heads. */
const tailBytesMin = 4096

/** Signed heads in a file, a line each, the newest last; only ever added to. */
export class HeadFile {
  readonly #file: FileHandle
  /** The newest. */
  readonly last: SignedHead | undefined

  /**
   * Opens it, or makes it. A line that a crash has cut short goes: nobody was told of it.
   * @param mode who may read and write a file that is made here
   * @throws HenceError `head-invalid` (change) when its last line is none
   */
  static async open(path: string, mode = 0o600): Promise<HeadFile> {
    const file = await open(path, 'a+', mode)
    try {
      const { size } = await file.stat()
      if (size === 0) await realDisk.syncDirectory(dirname(path), 'heads')
      const line = await lastLine(file, size)
      return new HeadFile(file, line === '' ? undefined : parseHead(line))
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(file: FileHandle, last: SignedHead | undefined) {
    this.#file = file
    this.last = last
  }

  async add(head: SignedHead): Promise<void> {
    await this.#file.appendFile(`${headLine(head)}\n`)
    await this.#file.datasync()
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** The last whole line; what stands behind it is cut off. */
async function lastLine(file: FileHandle, size: number): Promise<string> {
  for (let bytes = tailBytesMin; ; bytes *= 4) {
    const tail = Buffer.alloc(Math.min(size, bytes))
    await file.read(tail, 0, tail.length, size - tail.length)
    const end = tail.lastIndexOf('\n') + 1
    const start = end > 1 ? tail.lastIndexOf('\n', end - 2) + 1 : 0
    // With more heads before it the line is whole; without, there must be no more of the file.
    if (start === 0 && tail.length < size) continue
    if (end < tail.length) await file.truncate(size - tail.length + end)
    return tail.toString('utf8', start, Math.max(0, end - 1))
  }
}

/**
 * Reads the heads in a file, the oldest first; a last line that is cut short is left out.
 * @throws HenceError `head-invalid` (change)
 */
export async function* readHeads(path: string): AsyncGenerator<SignedHead> {
  // A process may be adding one right now, so a line counts once another follows it, or it can be read.
  let line: string | undefined
  for await (const next of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (line !== undefined) yield parseHead(line)
    line = next
  }
  if (line?.endsWith('}')) yield parseHead(line)
}

/** How many partitions the heads that are gathered have in all: what bounds the memory that they take. */
const gatheredMax = 100_000

/**
 * The newest head of a file and others, spread over it evenly: all when there are not too many. What each head vouches
 * for, every later one vouches for too; more of them only tell more exactly where something was changed.
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
    if (heads.length * Math.max(1, head.partitions.length) <= gatheredMax) continue
    heads = heads.filter((_, i) => i % 2 === 0)
    step *= 2
  }
  return newest === undefined || heads.at(-1) === newest ? heads : [...heads, newest]
}
