import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'

// The examples in the docs are compiled and run. A block that begins with
// ```ts NAME is a file; all files of a page are written to one folder. A block ```text NAME is the output of
// that file.

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
// A test runner that finds this variable believes that it runs within another one, and silently runs nothing.
const { NODE_TEST_CONTEXT: _, ...env } = process.env

async function pages(): Promise<string[]> {
  const names = await readdir(join(root, 'docs'), { recursive: true })
  return ['README.md', ...names.filter((name) => name.endsWith('.md')).map((name) => join('docs', name))]
}

interface Block {
  readonly kind: string
  readonly name: string
  readonly text: string
}

async function blocksOf(page: string): Promise<Block[]> {
  const text = await readFile(join(root, page), 'utf8')
  return [...text.matchAll(/^```(ts|text) (\S+)\n(.*?)^```$/gms)].map(([, kind, name, content]) => ({
    kind: kind!,
    name: name!,
    text: content!,
  }))
}

/** Pages that use the files of another page. */
const borrowed: Readonly<Record<string, string>> = {
  'docs/reference/engine.md': 'docs/reference/app.md',
  'docs/reference/http.md': 'docs/reference/app.md',
  'docs/how-to/audit.md': 'docs/reference/app.md',
  'docs/how-to/high-availability.md': 'docs/how-to/log-in-postgres.md',
  'docs/how-to/mount.md': 'docs/reference/app.md',
  'docs/how-to/sessions.md': 'docs/reference/app.md',
  'docs/reference/client.md': 'docs/reference/app.md',
  'docs/reference/offline.md': 'docs/reference/app.md',
}

// Within the project, so that `hence` resolves to this repository.
await mkdir(join(root, 'data'), { recursive: true })
const folder = await mkdtemp(join(root, 'data/docs-'))
after(() => rm(folder, { recursive: true, force: true }))
const folderOf = (page: string) => join(folder, page.replace(/\.md$/, ''))

const blocksByPage = new Map<string, Block[]>()
/** The files of each page with examples, those of another that it uses included. */
const filesByPage = new Map<string, Block[]>()
for (const page of await pages()) {
  const blocks = await blocksOf(page)
  if (blocks.length === 0) continue
  const other = borrowed[page]
  const files = [...(other ? await blocksOf(other) : []), ...blocks].filter(({ kind }) => kind === 'ts')
  await mkdir(folderOf(page), { recursive: true })
  for (const { name, text } of files) await writeFile(join(folderOf(page), name), text)
  blocksByPage.set(page, blocks)
  filesByPage.set(page, files)
}

test('the files of every page compile', async () => {
  await writeFile(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: relative(folder, join(root, 'tsconfig.json')), include: ['**/*.ts'] }),
  )
  await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]).catch(
    failWithOutput,
  )
})

for (const [page, blocks] of blocksByPage) {
  const tests = filesByPage.get(page)!.filter(({ name }) => name.endsWith('.test.ts'))
  const outputs = blocks.filter(({ kind }) => kind === 'text')
  if (tests.length === 0 && outputs.length === 0) continue

  test(`${page}: its tests pass, its programs print the shown output`, async () => {
    const node = async (...args: string[]) => {
      const options = { cwd: folderOf(page), env }
      const ended = run(process.execPath, ['-C', 'hence-source', ...args], options)
      return (await ended.catch(failWithOutput)).stdout
    }
    for (const { name } of tests) await node('--test', name)
    for (const { name, text } of outputs) {
      assert.equal(await node(name), text)
      // The tutorial says that its program can be run again.
      if (page === 'docs/tutorial.md') assert.equal(await node(name), text)
    }
  })
}

/** Fails with the output of a program as the message. */
function failWithOutput(error: { stdout?: string; stderr?: string; message: string }): never {
  assert.fail(`${error.message}\n${error.stdout ?? ''}${error.stderr ?? ''}`)
}

test('every link within the docs leads to a file', async () => {
  for (const page of await pages()) {
    const text = await readFile(join(root, page), 'utf8')
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
      const path = join(root, page, '..', target!)
      await assert.doesNotReject(readFile(path), `${page} links to ${target}`)
    }
  }
})
