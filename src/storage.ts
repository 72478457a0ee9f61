import { rm } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import type { Clock } from './clock.ts'
import { HenceError } from './failure.ts'
import { type Disk, makeDirectories, realDisk, writeWhole } from './log/file-log/disk.ts'
import { openFileLog } from './log/file-log/file-log.ts'
import { lockDirectory } from './log/file-log/lock.ts'
import type { Log } from './log/log.ts'
import type { Reporter } from './report.ts'
import { openLmdbStore } from './state/lmdb-store.ts'
import type { Store } from './state/store.ts'

/** Where an engine keeps its log and what it derives from it. */
export interface Storage {
  readonly log: Log
  /** The folder for signed tree heads and what proves them; undefined: in memory. */
  readonly audit?: string
  /**
   * Opens the derived state.
   * @param anew begin with an empty one; what was there is lost, and is derived again from the log
   */
  openStore(collections: readonly string[], anew: boolean): Promise<Store>
  /** Keeps the code that derived the state. */
  keepCode(version: string, code: string): Promise<void>
  close(): Promise<void>
}

/**
 * Storage in a directory:
 *
 *   lock, lock.json   held by the one process that has the directory open
 *   log/              the truth; see docs/reference/log-format.md
 *   state/            derived, may be removed while no process runs
 *   code/             every bundle that derived something, by its hash
 *   audit/            signed tree heads, their key, and the trees, which are derived; see `Auditor`
 *
 * @throws HenceError `data-in-use` (retry), `data-unusable` (operator), and what opening the log throws; the
 *   signal's reason when it ended the waiting
 */
export async function openDirectory(options: {
  readonly directory: string
  readonly partitions: number | undefined
  readonly clock: Clock
  readonly report: Reporter
  /** The size of a segment of the log; see `openFileLog`. */
  readonly segmentBytes?: number
  /** Wait until another process releases the directory. */
  readonly wait?: boolean | undefined
  /** Ends that waiting. */
  readonly signal?: AbortSignal | undefined
}): Promise<Storage> {
  const { directory, signal } = options
  let lock: { release(): Promise<void> } | undefined
  let log: Log
  try {
    await makeDirectories(realDisk, resolve(directory), 'data directory')
    lock = await lockDirectory(directory, options)
    log = await openFileLog(options)
  } catch (error) {
    await lock?.release()
    if (error instanceof HenceError || (signal?.aborted && error === signal.reason)) throw error
    throw unusable(directory, error)
  }
  const held = lock
  const state = join(directory, 'state')
  return {
    log,
    audit: join(directory, 'audit'),
    async openStore(collections, anew) {
      if (anew) await rm(state, { recursive: true, force: true })
      return openLmdbStore({ directory: state, collections })
    },
    keepCode: (version, code) => keepCode(realDisk, resolve(directory), version, code),
    async close() {
      await log.close()
      await held.release()
    },
  }
}

/** Keeps the code of a version in a data directory, for good when it resolves. */
export async function keepCode(disk: Disk, directory: string, version: string, code: string): Promise<void> {
  const folder = join(directory, 'code')
  await makeDirectories(disk, folder, 'code directory')
  const path = join(folder, `${version}.js`)
  if (!(await disk.list(folder))!.includes(basename(path))) {
    await writeWhole(disk, path, Buffer.from(code), 'code')
  }
  await disk.syncDirectory(folder, 'code name')
}

function unusable(directory: string, cause: unknown): HenceError {
  return new HenceError(
    'data-unusable',
    'operator',
    `The data directory ${resolve(directory)} cannot be used: ${cause instanceof Error ? cause.message : cause}. ` +
      'Give a directory that this process may make and write to, on a disk with space.',
    { cause },
  )
}
