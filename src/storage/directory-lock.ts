import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type Clock, pause, systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { printReport, type Reporter } from '../report.ts'
import { holdFile, isHeld } from './file-lock.ts'

export interface LockOptions {
  /** Wait until the process that has the directory releases it, instead of an error. Default false. */
  readonly wait?: boolean | undefined
  /** Ends the waiting: the call then throws the reason of the signal. */
  readonly signal?: AbortSignal | undefined
  readonly report?: Reporter | undefined
  readonly clock?: Clock | undefined
}

/** The process that has a directory open, from `lock.json`. */
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
 * Makes this process the only one that has a directory open, by the file `lock` in it. `lock.json` beside it only names the
 * holder.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(
  directory: string,
  {
    wait = false,
    signal = new AbortController().signal,
    report = printReport,
    clock = systemClock,
  }: LockOptions = {},
): Promise<{ release(): Promise<void> }> {
  let isReported = false
  // Closing takes the holder some milliseconds at least, and a hand-over should not take much longer.
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    signal.throwIfAborted()
    const held = holdFile(join(directory, lockName), wait)
    if (held) {
      await writeFile(
        join(directory, holderName),
        JSON.stringify({ pid: process.pid, host: hostname(), since: new Date(clock.now()).toISOString() }),
      )
      return {
        async release() {
          held.release()
        },
      }
    }
    const holder = await readHolder(directory)
    if (!wait) throw inUse(directory, holder)
    if (!isReported) {
      const whom = holder ? `waiting for pid ${holder.pid}` : 'waiting'
      report({ level: 'info', code: 'waiting-for-data', message: `${directory} is in use: ${whom}.` })
      isReported = true
    }
    await pause(clock, pauseMs, signal)
  }
}

/**
 * Returns the process that has a directory open now; undefined if there is none. Changes nothing, and does not disturb a
 * process that opens the directory at the same moment.
 */
export async function lockHolderOf(directory: string): Promise<LockHolder | 'unknown' | undefined> {
  if (!isHeld(join(directory, lockName))) return undefined
  return (await readHolder(directory)) ?? 'unknown'
}

async function readHolder(directory: string): Promise<LockHolder | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, holderName), 'utf8'))
  } catch {
    // It is being written, or never was; the lock does not depend on it.
    return undefined
  }
}

/** Returns words for a process in a sentence. */
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
