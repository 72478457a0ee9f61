import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { HenceError } from '../../failure.ts'
import { holdFile } from '../../file-lock.ts'

/**
 * Makes this process the only one that has the directory open, by the file `lock` in it. `lock.json` beside it only
 * tells who the holder is.
 * @throws HenceError `data-in-use` (retry)
 */
export async function lockDirectory(directory: string): Promise<{ release(): Promise<void> }> {
  const holder = join(directory, 'lock.json')
  const held = holdFile(join(directory, 'lock'))
  if (held === undefined) throw inUse(directory, await readFile(holder, 'utf8').catch(() => undefined))
  await writeFile(
    holder,
    JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }),
  )
  return {
    async release() {
      held.release()
    },
  }
}

function inUse(directory: string, holder: string | undefined): HenceError {
  return new HenceError(
    'data-in-use',
    'retry',
    `${directory} is in use by another process${holder === undefined ? '' : ` (${holder})`}. ` +
      'Stop that process first, or give another directory.',
  )
}
