import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type HenceError, operatorError } from '../failure.ts'

/** The parts of a data directory that a start needs, where they exist. */
const folders = ['log', 'state', 'code', 'promotions', 'audit', 'audit/tree']
const files = [
  ...['lock', 'lock.json', 'reserve', 'keys.json', 'log/meta.json'],
  ...['state/run.json', 'state/generations.json', 'state/views.json', 'state/views.sqlite', 'state/tries'],
]

/**
 * Finds what stands in a data directory in the place of something else: a file for a folder, or a folder
 * for a file. A start refuses these, and `doctor` names them.
 * @returns HenceError `file-misplaced` (operator) for each
 */
export async function misplaced(directory: string): Promise<HenceError[]> {
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
    const there = await stat(join(directory, name)).catch(() => undefined)
    if (there === undefined || (is === 'folder' ? there.isDirectory() : there.isFile())) return
    found.push(
      operatorError(
        'file-misplaced',
        `${join(directory, name)} must be a ${is}, and is not. Nothing was changed. Move it away, and put the ` +
          'right one back if there is one.',
      ),
    )
  }
  for (const name of [...folders, ...partitions, ...states]) await check(name, 'folder')
  const data = states.map((name) => `${name}/data.mdb`)
  const kept: string[] = []
  for (const folder of ['code', 'promotions', 'audit', 'audit/tree'])
    for (const name of await namesIn(folder)) if (name !== 'tree') kept.push(`${folder}/${name}`)
  for (const name of [...files, ...segments, ...data, ...kept]) await check(name, 'file')
  return found
}
