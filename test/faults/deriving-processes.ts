/** Finds the processes that derive a generation beside the live one, in what Linux tells of all processes. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** Other systems have no such folder: tests that need it are skipped there. */
export const canFindProcesses = process.platform === 'linux'

/** Those that a process has started and that have not ended. */
export function derivingChildrenOf(parent: number): number[] {
  return derivingProcesses().filter((pid) => parentOf(pid) === parent)
}

/** Those that have derived state of a data directory open. */
export function derivingIn(directory: string): number[] {
  const state = join(directory, 'state/')
  // The data beside it is also open in whatever was started by a process that has it open.
  const isOpen = (path: string) => path.startsWith(state) && path.endsWith('/lock.mdb')
  return derivingProcesses().filter((pid) => openFilesOf(pid).some(isOpen))
}

/** Whether a process goes on; one that has ended and that nobody has asked about does not. */
export function isDeriving(pid: number): boolean {
  return /reprocess\/child-process\.[jt]s\0/.test(read(`/proc/${pid}/cmdline`))
}

/** Resolves when a process has ended. */
export async function ended(pid: number): Promise<void> {
  while (isDeriving(pid)) await new Promise(setImmediate)
}

/** How much time of a processor a process has used up. */
export function processorMs(pid: number): number {
  // From the state on: ten fields, then the time outside the kernel, in hundredths of a second.
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
  // `PID (NAME) STATE PARENT …`, and the name may hold anything.
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

/** What a process that ends meanwhile has no more is as good as empty. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
