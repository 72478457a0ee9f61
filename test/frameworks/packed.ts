import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'

const exec = promisify(execFile)
export const root = join(import.meta.dirname, '../..')

const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
/** Programs that are started run on the Node that runs the test. */
export const env: NodeJS.ProcessEnv = {
  ...inherited,
  PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH']}`,
  NEXT_TELEMETRY_DISABLED: '1',
  npm_config_update_notifier: 'false',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
}

let packed: Promise<string> | undefined

/** Returns the tarball of this project, as a user would install it. */
export function tarball(): Promise<string> {
  packed ??= (async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hence-packed-'))
    process.once('exit', () => void rm(folder, { recursive: true, force: true }))
    const { stdout } = await exec('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root, env })
    const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string }]
    return join(folder, filename)
  })()
  return packed
}

/** Makes a project with the packed product, other packages and files; returns its folder. */
export async function project(
  t: TestContext,
  packages: readonly string[],
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-project-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'package.json'), '{"private":true,"type":"module"}')
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  await run(folder, 'npm', 'install', '--prefer-offline', await tarball(), ...packages)
  return folder
}

/** Runs a program; an error shows its output. */
export async function run(cwd: string, program: string, ...args: string[]): Promise<string> {
  try {
    return (await exec(program, args, { cwd, env, maxBuffer: 64 * 1024 * 1024 })).stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`${program} ${args.join(' ')} failed.\n${stdout}\n${stderr}`, { cause: error })
  }
}
