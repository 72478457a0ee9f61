import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from './clock.ts'
import { openFileLog } from './log/file-log/file-log.ts'
import { lockDirectory } from './log/file-log/lock.ts'
import type { Log } from './log/log.ts'
import type { Reporter } from './report.ts'
import { openLmdbStore } from './state/lmdb-store.ts'
import type { Store } from './state/store.ts'

/** Where an engine keeps its log and what it derives from it. */
export interface Storage {
  readonly log: Log
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
 *
 * @throws HenceError `data-in-use` (retry), and what opening the log throws
 */
export async function openDirectory(options: {
  readonly directory: string
  readonly partitions: number | undefined
  readonly clock: Clock
  readonly report: Reporter
}): Promise<Storage> {
  const { directory, partitions, clock, report } = options
  await mkdir(directory, { recursive: true })
  const lock = await lockDirectory(directory)
  const log = await openFileLog({ directory, partitions, clock, report }).catch(async (error) => {
    await lock.release()
    throw error
  })
  const state = join(directory, 'state')
  return {
    log,
    async openStore(collections, anew) {
      if (anew) await rm(state, { recursive: true, force: true })
      return openLmdbStore({ directory: state, collections })
    },
    async keepCode(version, code) {
      const folder = join(directory, 'code')
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, `${version}.js`), code)
    },
    async close() {
      await log.close()
      await lock.release()
    },
  }
}
