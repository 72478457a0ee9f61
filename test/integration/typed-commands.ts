import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const root = join(import.meta.dirname, '../..')

/** The environment of a shell in which `npx hence` is the command from its sources. */
export async function shellWith(folder: string, url: string): Promise<NodeJS.ProcessEnv> {
  const main = join(root, 'src/cli/main.ts')
  const npx = `#!/bin/sh\nshift\nexec "${process.execPath}" -C hence-source "${main}" "$@"\n`
  await writeFile(join(folder, 'npx'), npx)
  await chmod(join(folder, 'npx'), 0o755)
  return { ...process.env, HENCE_URL: url, PATH: `${folder}${delimiter}${process.env['PATH']}` }
}

/** The blocks ```console of a page. */
export const consoleBlocks = (page: string): readonly string[] =>
  [...page.matchAll(/^```console\n(.*?)^```$/gms)].map(([, block]) => block!)

/**
 * Types the commands of a block, and compares what they print with what it shows; an ellipsis stands for text
 * that differs from run to run.
 * @returns how many there were
 */
export async function typeCommands(
  block: string,
  options: { readonly cwd?: string; readonly env: NodeJS.ProcessEnv },
): Promise<number> {
  const commands = [...block.matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)]
  for (const [, command, output] of commands) {
    const { stdout } = await promisify(execFile)('sh', ['-c', command!], options)
    const pattern = output!.split('…').map((part) => part.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
    assert.match(stdout, new RegExp(`^${pattern.join('[^]*?')}$`), command!)
  }
  return commands.length
}
