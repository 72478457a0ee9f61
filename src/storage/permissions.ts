import fs from 'node:fs'
import { lstat, readdir, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Report } from '../report.ts'

/** The bits of a mode that give access to others than the owner. */
const othersMask = 0o077

/** Takes the access of others from a file that a library made with the permissions of the umask. */
export function closeToOthers(path: string): void {
  try {
    if ((fs.statSync(path).mode & othersMask) !== 0) fs.chmodSync(path, 0o600)
  } catch (error) {
    // The file belongs to another user, or there is none; the check of the directory reports what is open.
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EPERM' && code !== 'ENOENT') throw error
  }
}

/**
 * Finds the files and directories of a data directory that others than the owner may access. If the directory
 * itself is closed, none can be reached. Windows has no such modes.
 * @returns the warning of a start and of `doctor`; undefined if there are none
 */
export async function warningOfAccess(directory: string): Promise<Report | undefined> {
  if (process.platform === 'win32') return undefined
  const path = await realpath(directory).catch(() => resolve(directory))
  const top = await modeFor(path)
  if (top === undefined) return undefined
  let count = 1
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue
    if ((await modeFor(join(entry.parentPath, entry.name))) !== undefined) count++
  }
  const message =
    `Others than the owner may access ${path} (${top}) and ${count - 1} files and directories in it. They hold what ` +
    `clients sent, and keys: run \`chmod -R go= ${path}\`.`
  return { level: 'warning', code: 'data-open-to-others', message }
}

/** Returns the mode of a file, for example `0755`; undefined if others have no access. */
async function modeFor(path: string): Promise<string | undefined> {
  const { mode } = await lstat(path).catch(() => ({ mode: 0 }))
  return (mode & othersMask) === 0 ? undefined : `0${(mode & 0o777).toString(8)}`
}
