import { createReadStream } from 'node:fs'
import { type FileHandle, open, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { changeError, HenceError } from '../failure.ts'
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
      if (end < size) await file.truncate(end)
      return new HeadFile(file, end, headIn(path, line))
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

/** Reads the last line of a file of heads. */
function headIn(path: string, line: string): SignedHead | undefined {
  try {
    return line === '' ? undefined : parseHead(line)
  } catch (error) {
    throw changeError(
      'head-invalid',
      `The last line of ${path} is no signed tree head. Put the file back from a copy. If there is none, ` +
        'remove that line: the newest head is kept beside it.',
      { cause: error },
    )
  }
}

/**
 * Checks what an opening of the heads in a folder reads, and changes nothing.
 * @throws HenceError `head-invalid` (change)
 */
export async function checkHeads(folder: string): Promise<void> {
  const path = join(folder, headsName)
  const size = await bytesIn(path)
  if (size === undefined) return
  const file = await open(path, 'r')
  try {
    headIn(path, (await lastLine(file, size)).line)
  } finally {
    await file.close()
  }
}

/** Returns the last whole line and the byte after it. */
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

const newestName = 'newest-head.json'
const headsName = 'heads.ndjson'

/**
 * The heads of a folder: the file of all of them, and beside it the newest, by which a loss of others is
 * noticed.
 */
export class KeptHeads {
  readonly #folder: string
  readonly #file: HeadFile
  #last: SignedHead | undefined

  /**
   * Opens the heads. Heads that are missing are reported, and the newest, which covers all before it, is
   * added again.
   * @param signedBefore whether the folder has been in use before
   * @throws HenceError `head-invalid` (change)
   */
  static async open(
    folder: string,
    signedBefore: boolean,
    lost: (message: string) => void,
  ): Promise<KeptHeads> {
    const path = join(folder, headsName)
    const wasThere = (await bytesIn(path)) !== undefined
    const newest = await readNewest(folder)
    const file = await HeadFile.open(path)
    const kept = new KeptHeads(folder, file)
    const hasLost = newest !== undefined && !covers(file.last, newest)
    if (hasLost) {
      await kept.add(newest).catch(async (error) => {
        await file.close()
        throw error
      })
    }
    if (hasLost || (signedBefore && !wasThere)) {
      const what = wasThere ? 'ends before the newest signed head' : 'is missing'
      const when = newest === undefined ? '' : `, of ${new Date(newest.time).toISOString()}`
      lost(
        `The file ${path} ${what}${when}. It was removed, cut or put back from an earlier copy. Signing goes on ` +
          `${newest === undefined ? 'without them' : 'after that head'}; put the lost heads back from a ` +
          'copy, or from those who got them.',
      )
    }
    return kept
  }

  private constructor(folder: string, file: HeadFile) {
    this.#folder = folder
    this.#file = file
    this.#last = file.last
  }

  get last(): SignedHead | undefined {
    return this.#last
  }

  /** Makes a head durable. It can be called again after it has failed. */
  async add(head: SignedHead): Promise<void> {
    await this.#file.add(head)
    this.#last = head
    // Not synced: after a loss of power an older one does no harm.
    const path = join(this.#folder, newestName)
    await writeFile(`${path}.unfinished`, headLine(head), { mode: 0o600 })
    await rename(`${path}.unfinished`, path)
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** The newest head of a folder; undefined if there is none, or its file is torn. */
async function readNewest(folder: string): Promise<SignedHead | undefined> {
  try {
    return parseHead(await readFile(join(folder, newestName), 'utf8'))
  } catch (error) {
    if (error instanceof HenceError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whether heads were signed in a folder before. */
export async function hasHeads(folder: string): Promise<boolean> {
  return (await readNewest(folder)) !== undefined || ((await bytesIn(join(folder, headsName))) ?? 0) > 0
}

async function bytesIn(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size
}

function covers(last: SignedHead | undefined, head: SignedHead): boolean {
  return head.partitions.every(({ size }, i) => size <= (last?.partitions[i]?.size ?? 0))
}
