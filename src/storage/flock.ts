import { spawn } from 'node:child_process'
import fs from 'node:fs'

/** A lock of this process on an open directory. */
export interface Flock {
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
export async function flockDirectory(
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
    child.stderr!.on('data', (text) => {
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
