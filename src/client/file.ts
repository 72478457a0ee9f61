import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { HenceError, operatorError, retryError, thrownText } from '../failure.ts'
import { holdFile } from '../storage/file-lock.ts'
import type { OpenOutbox, Outbox, StoredRequest } from './outbox.ts'

/** The file is rewritten when lines about settled requests take more than this, and more than the rest. */
const settledBytesMax = 64 * 1024

/**
 * An outbox in a file, for one client at a time, which a lock file beside it ensures. Requests whose `add`
 * resolved survive a killed process and a power loss. Neither file may be a symbolic link. The file is JSON
 * Lines, appended to until it is rewritten, at the latest when the outbox is closed:
 *
 *   {"stored":{"requestId":…,"type":…,"input":…,"queue":…,"since":…}}
 *   {"settled":"<request id>"}
 *
 * A later line about the same id takes the place of the one before.
 *
 * @throws HenceError when it is opened: `outbox-damaged` (operator), `outbox-failed` (retry)
 */
export function file(path: string): Outbox {
  return {
    async open() {
      let held: ReturnType<typeof holdFile>
      try {
        const lock = `${resolve(path)}.lock`
        for (const each of [resolve(path), lock]) await checkOrdinary(each)
        held = holdFile(lock)
        if (held === undefined) throw new Error('another process, or another client, has it open')
        return await openFile(resolve(path), held.release)
      } catch (error) {
        held?.release()
        throw error instanceof HenceError && error.code === 'outbox-damaged' ? error : failed(path, error)
      }
    },
  }
}

async function openFile(path: string, closed: () => void): Promise<OpenOutbox> {
  const stored = read(path, await textIn(path))
  let file = await writeAnew(path, stored)
  /** The bytes of the file that are about settled requests. */
  let settledBytes = 0
  let gathered: GatheredLines | undefined
  let writing: Promise<void> | undefined
  let broken: unknown

  /** Lines added while others are being written are written together, with one sync. */
  function write(line: OutboxLine): Promise<void> {
    gathered ??= { lines: [], written: Promise.withResolvers() }
    const { lines, written } = gathered
    lines.push(line)
    writing ??= writeAll()
    return written.promise
  }

  async function writeAll(): Promise<void> {
    // Lines of one turn of the event loop are written together.
    await undefined
    for (let next = gathered; next !== undefined; next = gathered) {
      gathered = undefined
      const { lines, written } = next
      try {
        if (broken) throw broken
        const text = lines.map(textOf).join('')
        await file.handle.appendFile(text)
        // A lost removal does no harm, so it waits for no sync.
        if (lines.some((line) => 'stored' in line)) await file.handle.datasync()
        file.bytes += Buffer.byteLength(text)
        for (const line of lines) settle(line)
        written.resolve()
      } catch (error) {
        // After a failed write the file's content is unknown, and a second sync that succeeds would prove
        // nothing; so nothing more is written until the file has been opened and read again.
        broken = error
        written.reject(failed(path, error))
      }
      if (settledBytes > Math.max(settledBytesMax, file.bytes / 2)) await compact()
    }
    writing = undefined
  }

  function settle(line: OutboxLine): void {
    const isSettled = 'settled' in line
    const before = stored.get(isSettled ? line.settled : line.stored.requestId)
    if (isSettled) settledBytes += Buffer.byteLength(textOf(line))
    if (before) settledBytes += Buffer.byteLength(textOf({ stored: before }))
    keep(stored, line)
  }

  async function compact(): Promise<void> {
    if (broken) return
    try {
      const before = file.handle
      file = await writeAnew(path, stored)
      await before.close()
      settledBytes = 0
    } catch (error) {
      broken = error
    }
  }

  return {
    list: async () => [...stored.values()],
    async add(request) {
      if (!stored.has(request.requestId)) await write({ stored: request })
    },
    replace: (request) => write({ stored: request }),
    async remove(requestId) {
      if (stored.has(requestId)) await write({ settled: requestId })
    },
    async close() {
      while (writing) await writing.catch(() => {})
      if (settledBytes > 0) await compact()
      await file.handle.close()
      closed()
    },
  }
}

interface GatheredLines {
  readonly lines: OutboxLine[]
  readonly written: PromiseWithResolvers<void>
}

/** A file that was written anew, open for appending. */
interface Written {
  readonly handle: FileHandle
  bytes: number
}

type OutboxLine = { readonly stored: StoredRequest } | { readonly settled: string }

const textOf = (line: OutboxLine) => `${JSON.stringify(line)}\n`

/** Absent on Windows, where making a link needs the rights of an administrator. */
const { O_NOFOLLOW: noFollow = 0 } = constants

/** In a folder that others may write to, a link would lead to a file of their choice. */
async function checkOrdinary(path: string): Promise<void> {
  const found = await lstat(path).catch(absent)
  if (found && !found.isFile()) throw new Error(`${path} is a link, or another thing that is not a file`)
}

async function textIn(path: string): Promise<string> {
  const handle = await open(path, constants.O_RDONLY | noFollow).catch(absent)
  if (handle === undefined) return ''
  return await handle.readFile('utf8').finally(() => handle.close())
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

/** Reads a file; a last line that was cut short was never acknowledged, and is left out. */
function read(path: string, text: string): Map<string, StoredRequest> {
  const stored = new Map<string, StoredRequest>()
  const lines = text.split('\n')
  // After the last line feed there is nothing, or part of a line that a crash cut short.
  lines.pop()
  for (const [i, line] of lines.entries()) {
    const entry = parsed(line)
    if (entry === undefined) {
      // A power loss can tear lines that were written together; then no line after the torn one is complete.
      // A complete line proves that all lines before it were synced.
      if (lines.slice(i + 1).every((later) => parsed(later) === undefined)) break
      throw damaged(path, i + 1)
    }
    keep(stored, entry)
  }
  return stored
}

function keep(stored: Map<string, StoredRequest>, line: OutboxLine): void {
  if ('stored' in line) stored.set(line.stored.requestId, line.stored)
  else stored.delete(line.settled)
}

function parsed(line: string): OutboxLine | undefined {
  try {
    const entry = JSON.parse(line)
    if (typeof entry?.settled === 'string' || typeof entry?.stored?.requestId === 'string') return entry
  } catch {}
  return undefined
}

/** Replaces the file by one with only the open requests, and returns it open for appending. */
async function writeAnew(path: string, stored: ReadonlyMap<string, StoredRequest>): Promise<Written> {
  const text = [...stored.values()].map((each) => textOf({ stored: each })).join('')
  await rm(`${path}.new`, { force: true })
  // Fails if somebody has put a file or a link there in between.
  const handle = await open(`${path}.new`, 'wx', 0o600)
  try {
    await handle.appendFile(text)
    await handle.sync()
    await rename(`${path}.new`, path)
    // Windows has no fsync of a directory, and needs none.
    if (process.platform !== 'win32') {
      const directory = await open(dirname(path), 'r')
      await directory.sync().finally(() => directory.close())
    }
    return { handle, bytes: Buffer.byteLength(text) }
  } catch (error) {
    await handle.close()
    throw error
  }
}

const damaged = (path: string, line: number) =>
  operatorError(
    'outbox-damaged',
    `Line ${line} of the outbox ${path} is not one that was written there, and lines after it are. ` +
      'Nothing is skipped: mend the line, or take it out if it cannot be read, and open the outbox again.',
  )

const failed = (path: string, cause: unknown) =>
  retryError(
    'outbox-failed',
    `The outbox ${path} cannot be used: ${thrownText(cause)}. Nothing was sent that it does not hold. Mend the ` +
      'cause, and open it again.',
    { cause },
  )
