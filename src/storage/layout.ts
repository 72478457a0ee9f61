import { access, constants, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type HenceError, operatorError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { fileExists } from './text-file.ts'

/** The parts of a data directory that a start needs, where they exist. */
const folders = ['log', 'state', 'code', 'promotions', 'audit', 'audit/tree']
const files = [
  ...['lock', 'lock.json', 'reserve', 'keys.json', 'signer.pem', 'log/meta.json'],
  ...['state/run.json', 'state/folding.json', 'state/generations.json', 'state/views.json'],
  ...['state/views.sqlite', 'state/tries', 'state/deriving.lock'],
]

/** It is in a copy of a data directory until that is whole, so that the next call can go on. */
export const copyNote = 'unfinished.json'

export async function checkCopied(directory: string): Promise<void> {
  if (!(await fileExists(join(directory, copyNote)))) return
  throw operatorError(
    'copy-unfinished',
    `${resolve(directory)} is a copy that was not finished: \`${copyNote}\` marks it. Nothing was changed. Run ` +
      'the same `hence backup` or `hence restore` again, which goes on where it stopped, or remove the directory.',
  )
}

/**
 * Finds what was derived from a log that is not there any more. Without this, a start would make a new log,
 * into which the files of the right one could be copied back.
 */
export async function missingLog(directory: string): Promise<HenceError | undefined> {
  if (await fileExists(join(directory, 'log/meta.json'))) return undefined
  const states = await readdir(join(directory, 'state')).catch(() => [])
  const derived = [...states.map((name) => `state/${name}/data.mdb`), 'audit/heads.ndjson']
  for (const name of derived) {
    if (!(await fileExists(join(directory, name)))) continue
    return operatorError(
      'log-missing',
      `${join(resolve(directory), 'log')} is gone, or lacks \`meta.json\`, and ${name} was made from it. Nothing was ` +
        'changed. Put the log back, or restore a backup; to begin anew, use an empty directory. If the log is in ' +
        'PostgreSQL or Kafka, start with its address.',
    )
  }
  return undefined
}

/**
 * Finds why a start refuses a data directory before it opens it: it is a part of a copy, a file stands for a
 * folder, or a folder for a file, or this user may not read one. `doctor` names them all.
 * @returns HenceError `copy-unfinished` (operator) alone, or `file-misplaced`, `file-unusable` (operator) for
 *   each
 */
export async function wrongIn(directory: string): Promise<HenceError[]> {
  try {
    await checkCopied(directory)
  } catch (error) {
    return [fileFailure(error) ?? (error as HenceError)]
  }
  const namesIn = (folder: string) => readdir(join(directory, folder)).catch(() => [])
  const partitions = (await namesIn('log')).filter((name) => /^p\d+$/.test(name)).map((name) => `log/${name}`)
  const generations = (await namesIn('state')).filter((name) => /^(\d+|view\..+\.\d+)$/.test(name))
  const states = generations.map((name) => `state/${name}`)
  const segments: string[] = []
  for (const partition of partitions)
    for (const name of await namesIn(partition))
      if (name.endsWith('.segment')) segments.push(`${partition}/${name}`)
  const found: HenceError[] = []
  const check = async (name: string, is: 'folder' | 'file') => {
    const path = join(directory, name)
    const there = await stat(path).catch(() => undefined)
    if (there === undefined) return
    if (is === 'folder' ? there.isDirectory() : there.isFile()) {
      const unusable = await access(path, constants.R_OK).catch((error) => fileFailure(error))
      if (unusable !== undefined) found.push(unusable)
      return
    }
    found.push(
      operatorError(
        'file-misplaced',
        `${path} must be a ${is}, and is not. Nothing was changed. Move it away, and put the ` +
          'right one back if there is one.',
      ),
    )
  }
  for (const name of [...folders, ...partitions, ...states]) await check(name, 'folder')
  const data = states.flatMap((name) => [`${name}/data.mdb`, `${name}/lock.mdb`])
  const kept: string[] = []
  for (const folder of ['code', 'promotions', 'audit', 'audit/tree'])
    for (const name of await namesIn(folder)) if (name !== 'tree') kept.push(`${folder}/${name}`)
  for (const name of [...files, ...segments, ...data, ...kept]) await check(name, 'file')
  return found
}
