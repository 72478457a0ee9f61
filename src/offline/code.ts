import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { HenceError } from '../failure.ts'
import { codeName } from '../storage/storage.ts'

const nameOf = (version: string) => basename(codeName(version))
const hashOf = (code: string) => createHash('sha256').update(code).digest('hex')

/**
 * Holds the code that a data directory keeps against the names of its files, which are its hashes.
 * @returns the versions that are kept, and the files that are not what their names say
 */
export async function checkCode(
  directory: string,
): Promise<{ readonly kept: ReadonlySet<string>; readonly changed: readonly string[] }> {
  const folder = join(directory, 'code')
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.js'))
  const changed: string[] = []
  for (const name of names) {
    const path = join(folder, name)
    if (nameOf(hashOf(await readFile(path, 'utf8'))) !== name) changed.push(path)
  }
  const whole = names.filter((name) => !changed.includes(join(folder, name)))
  return { kept: new Set(whole.map((name) => basename(name, '.js'))), changed }
}

/**
 * Reads the code of a version.
 * @throws HenceError `code-not-kept` (change)
 */
export async function readCode(directory: string, version: string): Promise<{ code: string; hash: string }> {
  const code = await keptIn(directory, codeName(version))
  if (code !== undefined && hashOf(code) === version) return { code, hash: version }
  throw new HenceError(
    'code-not-kept',
    'change',
    `The code that derived the tables in ${directory} (version ${version.slice(0, 12)}) is not kept there` +
      `${code === undefined ? '' : ' unchanged'}: name the app's module with --app.`,
  )
}

/** A text that a data directory keeps; undefined when there is none. */
export function keptIn(directory: string, name: string): Promise<string | undefined> {
  return readFile(join(directory, name), 'utf8').catch(() => undefined)
}
