import { createReadStream } from 'node:fs'
import { type FileHandle, open, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { changeError, HenceError } from '../failure.ts'
import { ifThere, withPath } from '../file-failure.ts'
import { realDisk } from '../log/file-log/disk.ts'
import { appendTo } from './append-file.ts'
import { headLine, parseHead, type SignedHead } from './head.ts'

/** The first piece that is read from the end of a file: with one partition a dozen heads. */
const tailBytesMin = 4096

/**
 * Opens or makes a file of signed heads, a line each, the newest last; Hence only ever appends to it. A line
 * that a crash left unfinished is cut off: nobody has seen that head.
 */
export async function openHeadFile(path: string, mode = 0o600) {
  const file = await open(path, 'a+', mode)
  try {
    const { size } = await file.stat()
    if (size === 0) await realDisk.syncDirectory(dirname(path), 'heads')
    const { line, end } = await lastLine(file, size)
    if (end < size) await file.truncate(end)
    const written = appendTo(file, end)
    return {
      /** The newest when it was opened. */
      last: headIn(path, line),
      /** Makes a head durable. It can be called again after it has failed. */
      add: (head: SignedHead) => written.append(Buffer.from(`${headLine(head)}\n`)),
      /** @throws Error if the open file is no longer the one at its path, or is shorter than it was left */
      async check(): Promise<void> {
        const [own, there] = [await file.stat(), await ifThere(stat(path))]
        if (there?.ino === own.ino && own.size >= written.bytes) return
        throw new Error(`${path} was removed, cut or replaced while it was open`)
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

function headIn(path: string, line: string): SignedHead | undefined {
  try {
    return line === '' ? undefined : parseHead(line)
  } catch (error) {
    throw changeError(
      'head-invalid',
      `The last line of ${path} is not a signed tree head. Put the file back from a copy. If there is none, ` +
        'remove that line: the newest head is kept beside it.',
      { cause: error },
    )
  }
}

/** Checks what an opening of the heads in a folder reads, and changes nothing. */
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

/** Reads the heads in a file, the oldest first; leaves out an unfinished last line. */
export async function* readHeads(path: string): AsyncGenerator<SignedHead> {
  // A process may be appending one, so a line counts once another follows, or if it ends like a head.
  let line: string | undefined
  try {
    for await (const next of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      if (line !== undefined) yield parseHead(line)
      line = next
    }
  } catch (error) {
    throw withPath(error, path)
  }
  if (line?.endsWith('}')) yield parseHead(line)
}

/** The partitions of all returned heads together at most, to bound the memory that they take. */
const headPartitionsMax = 100_000

/**
 * Returns the newest head of a file and others, spread over it evenly; all of them if they are not too many.
 * Everything that a head vouches for, each later one vouches for too; more heads only narrow down where
 * something was changed.
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

/** The heads of a folder: a file of all of them, and beside it the newest, which shows a loss of others. */
export type KeptHeads = Awaited<ReturnType<typeof openHeads>>

/**
 * Opens the heads of a folder. Heads that are missing are reported, and the newest, which covers all before
 * it, is added again.
 * @param signedBefore whether the folder has been in use before
 */
export async function openHeads(folder: string, signedBefore: boolean, lost: (message: string) => void) {
  const path = join(folder, headsName)
  const wasThere = (await bytesIn(path)) !== undefined
  const newest = await readNewest(folder)
  const file = await openHeadFile(path)
  const heads = {
    last: file.last,
    /** Makes a head durable. It can be called again after it has failed. */
    async add(head: SignedHead): Promise<void> {
      await file.check()
      await file.add(head)
      heads.last = head
      await replaceFile(join(folder, newestName), headLine(head))
    },
    close: () => file.close(),
  }
  const hasLost = newest !== undefined && !covers(file.last, newest)
  if (hasLost) {
    await heads.add(newest).catch(async (error) => {
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
  return heads
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

export async function hasHeads(folder: string): Promise<boolean> {
  return (await readNewest(folder)) !== undefined || ((await bytesIn(join(folder, headsName))) ?? 0) > 0
}

/** Writes a small file whole or not at all. It is not durable: after a loss of power an older one does no harm. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.unfinished`, text, { mode: 0o600 })
  await rename(`${path}.unfinished`, path)
}

async function bytesIn(path: string): Promise<number | undefined> {
  return (await ifThere(stat(path)))?.size
}

function covers(last: SignedHead | undefined, head: SignedHead): boolean {
  return head.partitions.every(({ size }, i) => size <= (last?.partitions[i]?.size ?? 0))
}
