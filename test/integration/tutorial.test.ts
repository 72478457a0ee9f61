import assert from 'node:assert/strict'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { started } from '../hence-process.ts'
import { consoleBlocks, shellWith, typeCommands } from './typed-commands.ts'

// The tutorial's commands print the output that it shows; its files are those that `hence init` writes.

const root = join(import.meta.dirname, '../..')

test('the commands of the tutorial print the output that it shows', async (t) => {
  const page = await readFile(join(root, 'docs/tutorial.md'), 'utf8')
  await mkdir(join(root, 'data'), { recursive: true })
  const home = await mkdtemp(join(root, 'data/tutorial-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  const app = join(home, 'shop.ts')
  await copyFile(join(root, 'template/shop/shop.ts'), app)
  const server = await started([app, '--data', join(home, 'data')])
  t.after(() => server.stop())
  const env = await shellWith(home, server.url)

  let count = 0
  for (const block of consoleBlocks(page)) count += await typeCommands(block, { env })
  assert.equal(count, 7)
})

test('the files of the tutorial are those of the template', async () => {
  const page = await readFile(join(root, 'docs/tutorial.md'), 'utf8')
  for (const name of ['shop.ts', 'shop.test.ts']) {
    const shown = page.split(`\`\`\`ts ${name}\n`)[1]?.split('```')[0]
    assert.equal(shown, await readFile(join(root, 'template/shop', name), 'utf8'))
  }
})

test('the commands of the skill for coding agents print the output that it shows', async (t) => {
  const page = await readFile(join(root, 'docs/skill/SKILL.md'), 'utf8')
  await mkdir(join(root, 'data'), { recursive: true })
  const home = await mkdtemp(join(root, 'data/skill-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  const app = join(home, 'poll.ts')
  const code = page.split('```ts poll.ts\n')[1]!.split('```')[0]!
  await writeFile(app, code)
  const server = await started([app, '--data', join(home, 'data')])
  t.after(() => server.stop())
  const options = { cwd: home, env: await shellWith(home, server.url) }
  const [look, change, ...rest] = consoleBlocks(page.replaceAll('http://127.0.0.1:4362', server.url))
  await typeCommands(look!, options)
  const [, from, to] = /replace `(.+?)` with `(.+?)`/.exec(page)!
  assert.ok(code.includes(from!))
  await writeFile(app, code.replace(from!, to!))
  await typeCommands(change!, options)
  for (const block of rest) await typeCommands(block, options)
})
