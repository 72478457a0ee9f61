import fs from 'node:fs'
import { basename, dirname } from 'node:path'
import { withPath } from '../../file-failure.ts'

/**
 * Everything that the file log does to a file system. An implementation must guarantee:
 *
 * - Bytes written before a `sync` or `syncDirectory` resolves survive a loss of power. Until then they may be
 *   lost, in any part and in any order.
 * - A rename is atomic: after a crash there is the old name or the new one.
 *
 * Each sync carries a label, which names the place in the code that asks for it. The real disk ignores it;
 * the simulated disk can leave out the syncs of a label, and so the tests prove that each of them is needed.
 */
export interface Disk {
  /**
   * Opens a file: to read, to read and write, or to create it (an error if it exists). Of one opened to
   * `append`, each write is followed by its sync, so the disk may do both at once.
   */
  open(path: string, mode: 'read' | 'write' | 'append' | 'create'): Promise<DiskFile>
  /** Returns the names in a directory, in no order; undefined if there is no such directory. */
  list(path: string): Promise<string[] | undefined>
  /** Makes a directory; its parent must exist. */
  makeDirectory(path: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  /** Returns the file that has a path now; undefined if there is none. Fast enough to be called for each batch. */
  identify(path: string): FileIdentity | undefined | Promise<FileIdentity | undefined>
  /** Makes creations, renames and removals in a directory durable. */
  syncDirectory(path: string, label: string): Promise<void>
}

export interface FileIdentity {
  /** Differs from that of every other existing file. */
  readonly id: string
  readonly size: number
}

export interface DiskFile {
  size(): Promise<number>
  identify(): FileIdentity | Promise<FileIdentity>
  /** Fills the buffer from a position on; resolves to the bytes read, fewer only at the end of the file. */
  read(into: Buffer, position: number): Promise<number>
  /** Like `read`, for a few bytes that this process has just written: fast, as they are still in memory. */
  peek(into: Buffer, position: number): number | Promise<number>
  write(bytes: Buffer, position: number): Promise<void>
  /** Sets the size; new bytes read as zero. */
  truncate(size: number): Promise<void>
  /** Makes the bytes written to this file, and its size, durable. */
  sync(label: string): Promise<void>
  close(): Promise<void>
}

/**
 * Whether a write to a file that is opened with O_DSYNC is as durable as one followed by `fdatasync`, which
 * would be another way through the thread pool. Elsewhere the flag does less, or there is none.
 */
const syncsWrites = process.platform === 'linux'

// Others than the owner get no access, whatever the umask: the files hold what clients sent, and keys.
const fileMode = 0o600
const directoryMode = 0o700

export const realDisk: Disk = {
  async open(path, mode) {
    const isSynced = mode === 'append' && syncsWrites
    const { O_RDWR, O_DSYNC } = fs.constants
    const flags = mode === 'read' ? 'r' : mode === 'create' ? 'wx+' : isSynced ? O_RDWR | O_DSYNC : 'r+'
    return new RealFile(await promised<number>((done) => fs.open(path, flags, fileMode, done)), isSynced)
  },
  async list(path) {
    try {
      return await fs.promises.readdir(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  },
  makeDirectory: (path) => fs.promises.mkdir(path, { mode: directoryMode }),
  // Synchronous: some microseconds, where the way through the thread pool costs tens of them.
  identify(path) {
    try {
      return identityOf(fs.statSync(path, { bigint: true }))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
      throw error
    }
  },
  rename: (from, to) => fs.promises.rename(from, to),
  remove: (path) => fs.promises.unlink(path),
  async syncDirectory(path) {
    // Windows has no fsync of a directory, and needs none.
    if (process.platform === 'win32') return
    const directory = await fs.promises.open(path, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  },
}

/** Uses plain callbacks on a descriptor, since `FileHandle` would double the cost of a group commit. */
class RealFile implements DiskFile {
  readonly #descriptor: number
  /** Whether all that was written is durable. */
  readonly #isSynced: boolean

  constructor(descriptor: number, isSynced: boolean) {
    this.#descriptor = descriptor
    this.#isSynced = isSynced
  }

  async size(): Promise<number> {
    return (await promised<fs.Stats>((done) => fs.fstat(this.#descriptor, done))).size
  }

  identify(): FileIdentity {
    return identityOf(fs.fstatSync(this.#descriptor, { bigint: true }))
  }

  peek(into: Buffer, position: number): number {
    return fs.readSync(this.#descriptor, into, 0, into.length, position)
  }

  async read(into: Buffer, position: number): Promise<number> {
    let filled = 0
    while (filled < into.length) {
      const count = await promised<number>((done) =>
        fs.read(this.#descriptor, into, filled, into.length - filled, position + filled, done),
      )
      if (count === 0) break
      filled += count
    }
    return filled
  }

  async write(bytes: Buffer, position: number): Promise<void> {
    let written = 0
    while (written < bytes.length) {
      written += await promised<number>((done) =>
        fs.write(this.#descriptor, bytes, written, bytes.length - written, position + written, done),
      )
    }
  }

  truncate(size: number): Promise<void> {
    return promised((done) => fs.ftruncate(this.#descriptor, size, done))
  }

  sync(): Promise<void> {
    if (this.#isSynced) return Promise.resolve()
    return promised((done) => fs.fdatasync(this.#descriptor, done))
  }

  close(): Promise<void> {
    return promised((done) => fs.close(this.#descriptor, done))
  }
}

function identityOf({ dev, ino, size }: fs.BigIntStats): FileIdentity {
  return { id: `${dev}:${ino}`, size: Number(size) }
}

function promised<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value as T)))
  })
}

export async function withFile<T>(
  disk: Disk,
  path: string,
  mode: 'read' | 'write' | 'create',
  work: (file: DiskFile) => Promise<T>,
): Promise<T> {
  const file = await disk.open(path, mode)
  try {
    return await work(file)
  } catch (error) {
    throw withPath(error, path)
  } finally {
    await file.close()
  }
}

/** Makes a directory and those above it, and its name durable even if it exists: its maker may have died. */
export async function makeDirectories(disk: Disk, path: string, label: string): Promise<void> {
  const parent = dirname(path)
  if ((await disk.list(path)) === undefined) {
    await makeDirectories(disk, parent, label)
    await disk.makeDirectory(path)
  }
  if (parent !== path) await disk.syncDirectory(parent, label)
}

/** Writes a file whole or not at all. Its name is durable after a `syncDirectory`. */
export async function writeWhole(disk: Disk, path: string, bytes: Buffer, label: string): Promise<void> {
  const unfinished = `${path}.unfinished`
  if ((await disk.list(dirname(path)))?.includes(basename(unfinished))) await disk.remove(unfinished)
  await withFile(disk, unfinished, 'create', async (file) => {
    await file.write(bytes, 0)
    await file.sync(label)
  })
  await disk.rename(unfinished, path)
}
