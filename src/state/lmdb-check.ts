import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { onAbort } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { moduleBeside } from '../module-beside.ts'
import { LmdbFile, Useless } from './lmdb-file.ts'
import { checkHeader, OtherReader, requireFormat, unreadable } from './lmdb-files.ts'

/** Copies a store, which another process may have open, into an empty directory, as of one moment. */
export async function copyLmdbStore(from: string, to: string): Promise<void> {
  let reader: OtherReader | undefined
  try {
    checkHeader(from)
    reader = new OtherReader(from)
    await reader.root.backup(to, false)
  } catch (error) {
    throw unreadable(from, error)
  } finally {
    await reader?.close()
  }
}

/**
 * Checks every page and every value of a store before LMDB maps it: see `LmdbFile`.
 * @param options.isInUse whether another process, or this one, may write to it meanwhile
 * @param options.apart check in a thread of its own, for half of the time
 * @returns whether anything was written
 */
export async function checkLmdbStore(
  directory: string,
  { isInUse, apart }: { readonly isInUse: boolean; readonly apart?: Apart },
): Promise<boolean> {
  const path = join(directory, 'data.mdb')
  let other: OtherReader | undefined
  let file: LmdbFile | undefined
  try {
    if (!checkHeader(directory)) return false
    // LMDB keeps the pages of all versions from that of the oldest reader on.
    if (isInUse) other = new OtherReader(directory)
    const reader = other?.root.useReadTransaction()
    try {
      let format: string | undefined
      // An application that is bundled into one file has no such module.
      if (apart !== undefined && existsSync(threadModule)) format = await checkInThread(path, apart)
      else {
        file = LmdbFile.open(path)
        format = await file?.check()
      }
      if (format !== undefined) requireFormat(format)
      return format !== undefined
    } finally {
      reader?.done()
    }
  } catch (error) {
    throw unreadable(directory, error)
  } finally {
    file?.close()
    await other?.close()
  }
}

interface Apart {
  /** Called with how much has been checked, from 0 to 1. */
  readonly progress: (done: number) => void
  /** Ends the check. */
  readonly signal: AbortSignal
}

const threadModule = moduleBeside(import.meta.url, 'check-thread')

/** @returns the format of the state; see `LmdbFile.check` */
async function checkInThread(path: string, { progress, signal }: Apart): Promise<string | undefined> {
  const thread = new Worker(threadModule, { workerData: path })
  thread.unref()
  const forget = onAbort(signal, () => void thread.terminate())
  try {
    return await new Promise((resolve, reject) => {
      thread.on('message', (found: { done?: number; damage?: string; format?: string }) => {
        if (found.done !== undefined) progress(found.done)
        else if (found.damage === undefined) resolve(found.format)
        else reject(new Useless(found.damage))
      })
      thread.on('error', reject)
      thread.on('exit', () => reject(new Error('the thread that checks it has ended')))
    })
  } finally {
    forget()
  }
}

/** Whether a store is small enough for a check before it is opened, or is damaged at first sight. */
export function needsCheckFirst(directory: string, bytesMax: number): boolean {
  let file: LmdbFile | undefined
  try {
    file = LmdbFile.open(join(directory, 'data.mdb'))
    return file === undefined || file.bytes <= bytesMax || file.isCut()
  } catch {
    return true
  } finally {
    file?.close()
  }
}

/** Whether a state cannot be read since it is damaged or of another format, and not for a passing reason. */
export function isUseless(error: unknown): boolean {
  if (!(error instanceof HenceError) || error.code !== 'state-unreadable') return false
  return error.cause instanceof Useless
}
