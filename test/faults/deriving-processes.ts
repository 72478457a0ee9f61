/** Finds the processes that derive candidates, in /proc of Linux. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** Other systems have no /proc; tests that need it are skipped there. */
export const canFindProcesses = process.platform === 'linux'

/** The deriving processes that a process has started and that are still running. */
export function derivingChildrenOf(parent: number): number[] {
  return derivingProcesses().filter((pid) => parentOf(pid) === parent)
}

/** The deriving processes that have the derived state of a data directory open. */
export function derivingIn(directory: string): number[] {
  const state = join(directory, 'state/')
  // data.mdb does not count: every child of a process that has it open inherits it.
  const isOpen = (path: string) => path.startsWith(state) && path.endsWith('/lock.mdb')
  return derivingProcesses().filter((pid) => openFilesOf(pid).some(isOpen))
}

/** Whether a process is running; a zombie is not. */
export function isDeriving(pid: number): boolean {
  return /reprocess\/child-process\.[jt]s\0/.test(read(`/proc/${pid}/cmdline`))
}

/** Resolves when a process has ended. */
export async function ended(pid: number): Promise<void> {
  while (isDeriving(pid)) await new Promise(setImmediate)
}

/** The processor time that a process has used. */
export function processorMs(pid: number): number {
  // After the name come ten fields, then the user time in hundredths of a second.
  const fields = read(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, '')
    .split(' ')
  return Number(fields[11]) * 10
}

function derivingProcesses(): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter(isDeriving)
}

function parentOf(pid: number): number {
  // `PID (NAME) STATE PARENT …`; the name may contain anything.
  const [, parent] = read(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, '')
    .split(' ')
  return Number(parent)
}

function openFilesOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`
  try {
    return readdirSync(folder).map((name) => link(`${folder}/${name}`))
  } catch {
    return []
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

/** The text of a file, empty if the process has ended meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
