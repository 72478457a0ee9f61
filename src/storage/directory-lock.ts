import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type Clock, pause, systemClock } from '../clock.ts'
import { type HenceError, operatorError, retryError } from '../failure.ts'
import { withFileFailure } from '../file-failure.ts'
import { printReport, type Reporter } from '../report.ts'
import { holdFile, isHeld } from './file-lock.ts'
import { useReserve } from './reserve.ts'

interface LockOptions {
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

/** The lock of a directory, held by this process. */
export interface DirectoryLock {
  /**
   * Checks that no other process has taken the directory, without a system call where the kernel vouches for
   * that.
   * @throws HenceError `data-taken` (operator)
   */
  check(): void
  release(): Promise<void>
}

const lockName = 'lock'
const holderName = 'lock.json'
const pauseMsMax = 50
/** How long a refusal by flock(2) may come from a concurrent `lockHolderOf`, which takes milliseconds. */
const checkMsMax = 1_000

/**
 * Makes this process the only one that has a directory open. Two locks do that: one on the file `lock`, which
 * exists on every platform but ends when the file is removed, or when this process closes any other
 * descriptor of it; and, where there is a flock(1), one on the directory, which nothing but the end of the
 * process undoes. `lock.json` names the holder; a process that takes the directory replaces it, so that a
 * holder without the second lock notices that it has lost the first.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(directory: string, options: LockOptions = {}): Promise<DirectoryLock> {
  const {
    wait = false,
    signal = new AbortController().signal,
    report = printReport,
    clock = systemClock,
  } = options
  let isReported = false
  let checkedUntil: number | undefined
  // Closing takes the holder some milliseconds at least, and a hand-over should not take much longer.
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    signal.throwIfAborted()
    const file = holdFile(join(directory, lockName), wait)
    if (file) {
      let flock: Flock | 'busy' | undefined
      try {
        flock = await flockDirectory(directory, 'exclusive')
        if (flock !== 'busy') return heldLock(directory, file, flock, clock)
      } catch (error) {
        if (flock !== 'busy') flock?.release()
        file.release()
        throw error
      }
      file.release()
      checkedUntil ??= clock.now() + checkMsMax
    }
    const holder = await readHolder(directory)
    const isCertain = !file || clock.now() > checkedUntil!
    if (!wait && isCertain)
      throw retryError(
        'data-in-use',
        `${directory} is in use by ${nameOf(holder)}. ` +
          'Stop that process first, wait for it (`wait`; `--wait` on the command line), or give another directory.',
      )
    if (wait && !isReported) {
      const whom = holder ? `waiting for pid ${holder.pid}` : 'waiting'
      report({ level: 'info', code: 'waiting-for-data', message: `${directory} is in use: ${whom}.` })
      isReported = true
    }
    await pause(clock, pauseMs, signal)
  }
}

/** The lock that this process has just got, once `lock.json` names it. */
function heldLock(
  directory: string,
  file: { release(): void },
  flock: Flock | undefined,
  clock: Clock,
): DirectoryLock {
  const path = join(directory, holderName)
  const since = new Date(clock.now()).toISOString()
  const holder = JSON.stringify({ pid: process.pid, host: hostname(), since, id: randomUUID() })
  useReserve(directory)
  fs.writeFileSync(`${path}.unfinished`, holder, { mode: 0o600 })
  fs.renameSync(`${path}.unfinished`, path)
  let written = stampOf(path)
  return {
    check() {
      if (flock !== undefined) return
      const found = stampOf(path)
      if (written && found && written.ino === found.ino && written.ctimeMs === found.ctimeMs) return
      const text = textOf(path)
      if (text !== holder) throw taken(directory, text)
      // Its attributes changed, or it was put back.
      written = stampOf(path)
    },
    async release() {
      flock?.release()
      file.release()
    },
  }
}

/** A file, and the time of its last change: a replaced file differs in one of them. */
type Stamp = Pick<fs.Stats, 'ino' | 'ctimeMs'>

const stampOf = (path: string): Stamp | undefined => fs.statSync(path, { throwIfNoEntry: false })

function textOf(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

/**
 * Returns the process that has a directory open now; undefined if there is none. Changes nothing, and does
 * not disturb a process that opens the directory at the same moment.
 * @throws HenceError `file-unusable` (operator)
 */
export function lockHolderOf(directory: string): Promise<LockHolder | 'unknown' | undefined> {
  return withFileFailure(findHolder(directory))
}

async function findHolder(directory: string): Promise<LockHolder | 'unknown' | undefined> {
  if (!isHeld(join(directory, lockName)) && !(await isFlocked(directory))) return undefined
  return (await readHolder(directory)) ?? 'unknown'
}

/** Whether a process still has a directory open whose lock file was removed. */
async function isFlocked(directory: string): Promise<boolean> {
  if (stampOf(join(directory, holderName)) === undefined) return false
  const flock = await flockDirectory(directory, 'shared')
  if (flock === 'busy') return true
  flock?.release()
  return false
}

async function readHolder(directory: string): Promise<LockHolder | undefined> {
  return holderIn(await readFile(join(directory, holderName), 'utf8').catch(() => ''))
}

/** Undefined where the file is being written, or never was; the lock does not depend on it. */
function holderIn(text: string): LockHolder | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function nameOf(holder: LockHolder | 'unknown' | undefined): string {
  if (holder === undefined || holder === 'unknown') return 'another process'
  return `another process (${holder.pid} on ${holder.host}, since ${holder.since})`
}

function taken(directory: string, text: string | undefined): HenceError {
  return operatorError(
    'data-taken',
    text === undefined
      ? `The lock files of ${directory} were removed, so another process may have taken it. This one ` +
          'writes nothing more: start it again.'
      : `${directory} was taken by ${nameOf(holderIn(text))} while this process had it open, because its lock was ` +
          'removed or lost. This process writes nothing more; stop it.',
  )
}

interface Flock {
  release(): void
}

/**
 * Takes an flock(2) lock on a directory. The kernel keeps it with the open directory: no removal of files and
 * no closing of other descriptors undoes it, and it ends with the process however that ends. Node has no
 * flock(2), so this opens the directory and lets flock(1) of util-linux or BusyBox take the lock on that
 * descriptor, once (some milliseconds).
 * @returns `busy` if another process, or another part of this one, holds it; undefined where there is no
 *   flock(1), or the file system has no such locks
 */
async function flockDirectory(
  path: string,
  kind: 'exclusive' | 'shared',
): Promise<Flock | 'busy' | undefined> {
  if (process.platform === 'win32') return undefined
  const descriptor = fs.openSync(path, 'r')
  let isHeld = false
  try {
    const { code, errors } = await run('flock', [kind === 'shared' ? '-sn' : '-xn', '3'], descriptor)
    isHeld = code === 0
    if (isHeld) return { release: () => fs.closeSync(descriptor) }
    // BusyBox ends with 1 for every failure, but says nothing only when the lock is held elsewhere.
    return code === 1 && errors === '' ? 'busy' : undefined
  } finally {
    if (!isHeld) fs.closeSync(descriptor)
  }
}

/** Runs a command with a descriptor as its file 3. `code` is undefined if there is no such command. */
function run(
  command: string,
  args: readonly string[],
  descriptor: number,
): Promise<{ readonly code: number | undefined; readonly errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe', descriptor] })
    let errors = ''
    // It has none if it could not be started.
    child.stderr?.on('data', (text) => {
      errors += text
    })
    child.once('error', (error: NodeJS.ErrnoException) => {
      const isMissing = error.code === 'ENOENT' || error.code === 'EACCES'
      if (isMissing) resolve({ code: undefined, errors })
      else reject(error)
    })
    child.once('close', (code, signal) => {
      if (code === null) reject(new Error(`${command} was ended by ${signal}`))
      else resolve({ code, errors })
    })
  })
}
