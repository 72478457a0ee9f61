import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { changeError } from '../failure.ts'
import { ifThere } from '../file-failure.ts'
import { realDisk } from '../log/file-log/disk.ts'
import { type AppBundle, bundleApp } from '../sandbox/bundle.ts'
import { sandboxed } from '../sandbox/program.ts'
import { codeName, keep, kept } from '../storage/storage.ts'
import { readText } from '../storage/text-file.ts'
import { snapshotData } from './data-snapshot.ts'

const nameOf = (version: string) => basename(codeName(version))
const hashOf = (code: string) => createHash('sha256').update(code).digest('hex')

/**
 * Compares each file of code in a data directory with its name, which is its hash.
 * @returns the versions that are kept unchanged, and the paths of files that were changed
 */
export async function checkCode(
  directory: string,
): Promise<{ readonly kept: ReadonlySet<string>; readonly changed: readonly string[] }> {
  const folder = join(directory, 'code')
  const names = ((await ifThere(readdir(folder))) ?? []).filter((name) => name.endsWith('.js'))
  const whole = new Set<string>()
  const changed: string[] = []
  for (const name of names) {
    const path = join(folder, name)
    if (nameOf(hashOf(await readText(path))) === name) whole.add(basename(name, '.js'))
    else changed.push(path)
  }
  return { kept: whole, changed }
}

export async function readCode(directory: string, version: string): Promise<AppBundle> {
  const code = await kept(directory, codeName(version))
  if (code !== undefined && hashOf(code) === version) return { code, hash: version, files: [] }
  throw changeError(
    'code-not-kept',
    `The code of version ${version.slice(0, 12)}, which derived the tables in ${directory}, ` +
      `${code === undefined ? 'is not kept there' : 'was changed there'}. Name the app's module with --app.`,
  )
}

export function keepCode(directory: string, { code, hash }: AppBundle): Promise<void> {
  return keep(realDisk, resolve(directory), codeName(hash), code)
}

/** Bundles an app as its files are now, keeps its code in a data directory, and returns the version. */
export async function putCode(directory: string, app: string): Promise<string> {
  // Throws if this is not a data directory, before anything is written there.
  await snapshotData(directory)
  const code = await bundleApp(app)
  sandboxed(code)
  await keepCode(directory, code)
  return code.hash
}
