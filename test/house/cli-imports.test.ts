import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

// The command line starts in under 300 ms because it loads only what it needs. This says what that is.

const root = join(import.meta.dirname, '../..')

/** Prints the address of every module that the process has loaded, at its end. */
const hook = `import { registerHooks } from 'node:module'
const loaded = []
registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
process.on('exit', () => console.error(JSON.stringify(loaded)))`

/** The packages and the rooms of `src` that a command line loads. */
async function loadedBy(...words: readonly string[]) {
  const hooked = ['--import', `data:text/javascript,${encodeURIComponent(hook)}`]
  const args = ['-C', 'hence-source', ...hooked, join(root, 'src/cli/main.ts'), ...words]
  const run = promisify(execFile)(process.execPath, args, { cwd: root })
  const { stderr } = await run.catch((error: { readonly stderr: string }) => error)
  const urls: readonly string[] = JSON.parse(stderr.trimEnd().split('\n').at(-1)!)
  const found = (pattern: RegExp) => [...new Set(urls.flatMap((url) => pattern.exec(url)?.[1] ?? []))].sort()
  return { packages: found(/node_modules\/((?:@[^/]+\/)?[^/]+)/), rooms: found(/\/src\/([^/.]+)\//) }
}

/** Light: names, columns, paths; none of these reads a log, opens a store or serves. */
const light = ['audit', 'cli', 'client', 'constraint', 'diff', 'log', 'offline', 'reprocess', 'server']
const lightPackages = ['commander', 'eventsource-parser']

test('--version loads nothing but the command line itself', async () => {
  assert.deepEqual(await loadedBy('--version'), { packages: ['commander'], rooms: ['cli'] })
})

test('--help of all commands loads no engine, sandbox, server framework or store', async () => {
  const { packages, rooms } = await loadedBy('--help')
  assert.deepEqual(packages, lightPackages)
  assert.deepEqual(rooms, [...light, 'state', 'storage'])
})

for (const [words, packages] of [
  ['start --help', ['commander']],
  ['doctor --help', ['commander']],
  ['check --help', ['commander']],
  ['submit --help', ['commander']],
  ['log cat --data no-such-directory', ['commander']],
] as const) {
  test(`hence ${words} loads no other package than ${packages.join(' and ')}`, async () => {
    assert.deepEqual((await loadedBy(...words.split(' '))).packages, packages)
  })
}
