import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from '../failure.ts'
import { printReport, type Reporter } from '../report.ts'
import { holdFile, isHeld } from './file-lock.ts'

export interface LockOptions {
  /** Wait until the process that has the directory releases it, instead of an error. Default false. */
  readonly wait?: boolean | undefined
  /** Ends the waiting: the call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined
  readonly report?: Reporter | undefined
}

/** The process that has a directory open, as it wrote it down. */
export interface LockHolder {
  readonly pid: number
  readonly host: string
  /** When it took the directory: ISO 8601. */
  readonly since: string
}

const lockName = 'lock'
const holderName = 'lock.json'
const pauseMsMax = 50

/**
 * Makes this process the only one that has the directory open, by the file `lock` in it. `lock.json` beside it only
 * tells who the holder is.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(
  directory: string,
  { wait = false, signal, report = printReport }: LockOptions = {},
): Promise<{ release(): Promise<void> }> {
  let told = false
  // The holder needs some time at least, and whoever waits for a hand-over should not wait much longer.
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    signal?.throwIfAborted()
    const held = holdFile(join(directory, lockName), wait)
    if (held) {
      await writeFile(
        join(directory, holderName),
        JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }),
      )
      return {
        async release() {
          held.release()
        },
      }
    }
    const holder = await readHolder(directory)
    if (!wait) throw inUse(directory, holder)
    if (!told) {
      const whom = holder ? `waiting for pid ${holder.pid}` : 'waiting'
      report({ level: 'info', code: 'waiting-for-data', message: `${directory} is in use: ${whom}.` })
      told = true
    }
    await pause(pauseMs, undefined, { signal }).catch(() => {})
  }
}

/**
 * Who has the directory open right now; undefined when nobody has. It changes nothing, and a process that opens
 * the directory at this very moment is let in all the same.
 */
export async function lockHolderOf(directory: string): Promise<LockHolder | 'unknown' | undefined> {
  if (!isHeld(join(directory, lockName))) return undefined
  return (await readHolder(directory)) ?? 'unknown'
}

async function readHolder(directory: string): Promise<LockHolder | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, holderName), 'utf8'))
  } catch {
    // It is being written, or was never: the lock holds without it.
    return undefined
  }
}

/** Names a process in a sentence. */
export function nameOf(holder: LockHolder | 'unknown' | undefined): string {
  if (holder === undefined || holder === 'unknown') return 'another process'
  return `another process (${holder.pid} on ${holder.host}, since ${holder.since})`
}

function inUse(directory: string, holder: LockHolder | undefined): HenceError {
  return new HenceError(
    'data-in-use',
    'retry',
    `${directory} is in use by ${nameOf(holder)}. ` +
      'Stop that process first, wait for it (`wait`; `--wait` on the command line), or give another directory.',
  )
}
