import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { started } from '../hence-process.ts'

// The tutorial's commands print the output that it shows; its files are those that `hence init` writes.

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')

test('the commands of the tutorial print the output that it shows', async (t) => {
  const page = await readFile(join(root, 'docs/tutorial.md'), 'utf8')
  await mkdir(join(root, 'data'), { recursive: true })
  const home = await mkdtemp(join(root, 'data/tutorial-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  const app = join(home, 'shop.ts')
  await copyFile(join(root, 'template/shop/shop.ts'), app)
  // A replacement for npx that runs the command from its sources.
  const npx = `#!/bin/sh\nshift\nexec "${process.execPath}" -C hence-source "${join(root, 'src/cli/main.ts')}" "$@"\n`
  await writeFile(join(home, 'npx'), npx)
  await chmod(join(home, 'npx'), 0o755)
  const server = await started([app, '--data', join(home, 'data')])
  t.after(() => server.stop())
  const env = { ...process.env, HENCE_URL: server.url, PATH: `${home}${delimiter}${process.env['PATH']}` }

  let count = 0
  for (const [, block] of page.matchAll(/^```console\n(.*?)^```$/gms)) {
    for (const [, command, output] of block!.matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)) {
      const { stdout } = await run('sh', ['-c', command!], { env })
      // An ellipsis stands for text that differs from run to run.
      const pattern = output!.split('…').map((part) => part.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
      assert.match(stdout, new RegExp(`^${pattern.join('[^\\n]*?')}$`), command!)
      count++
    }
  }
  assert.equal(count, 7)
})

test('the files of the tutorial are those of the template', async () => {
  const page = await readFile(join(root, 'docs/tutorial.md'), 'utf8')
  for (const name of ['shop.ts', 'shop.test.ts']) {
    const shown = page.split(`\`\`\`ts ${name}\n`)[1]?.split('```')[0]
    assert.equal(shown, await readFile(join(root, 'template/shop', name), 'utf8'))
  }
})
