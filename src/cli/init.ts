import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Option } from 'commander'
import { checkEmpty } from '../storage/empty-directory.ts'
import { command } from './command.ts'
import { paint, printResult } from './terminal/output.ts'

/** A folder for each kind of new app. They are compiled and tested with the rest of this repository. */
const templates = fileURLToPath(new URL('../../template/', import.meta.url))

export function initCommand() {
  return command('init', 'create a small app with its test in an empty folder', [
    'hence init shop && cd shop && npm install && npm test && npm start',
    'hence init                                         in the current folder',
    'hence init hotel --template bookings               rooms that are overbooked, and a decision',
  ])
    .argument('[directory]', 'an empty folder; created if it does not exist', '.')
    .addOption(
      new Option('--template <name>', 'the app').choices(['shop', 'bookings', 'ledger']).default('shop'),
    )
    .json()
    .runs(async (directory: string, options: { readonly json?: true; readonly template: string }) => {
      const folder = resolve(directory)
      await mkdir(folder, { recursive: true })
      // A Git repository may be there already.
      await checkEmpty(folder, ['.git'])
      const files = await write(join(templates, options.template), folder)
      const go = folder === process.cwd() ? '' : `cd ${relative('', folder)} && `
      await printResult(options.json, { directory: folder, files }, [
        ...files.map((file) => `${paint.good('wrote')} ${join(relative('', folder), file)}`),
        '',
        `Now: ${paint.strong(`${go}npm install && npm test && npm start`)}`,
      ])
    })
}

async function write(template: string, folder: string): Promise<string[]> {
  const files: string[] = []
  await copyFile(join(templates, 'AGENTS.md'), join(folder, 'AGENTS.md'))
  files.push('AGENTS.md')
  for (const name of (await readdir(template)).sort()) {
    const target = renamed[name] ?? name
    if (target === 'package.json') await writePackage(join(template, name), folder)
    else await copyFile(join(template, name), join(folder, target))
    files.push(target)
  }
  return files
}

/** Under other names here: npm packs no `.gitignore`, and a `package.json` would be a package of its own. */
const renamed: Readonly<Record<string, string>> = {
  gitignore: '.gitignore',
  'app-package.json': 'package.json',
}

/** Makes the new app depend on this version of Hence. */
async function writePackage(from: string, folder: string): Promise<void> {
  const read = async (path: string | URL) => JSON.parse(await readFile(path, 'utf8'))
  const content = await read(from)
  const { version } = await read(new URL('../../package.json', import.meta.url))
  const name = basename(folder)
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '')
  content.name = name || 'app'
  content.dependencies.hence = `^${version}`
  await writeFile(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`, { flag: 'wx' })
}
