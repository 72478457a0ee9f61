import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'

// A new user installs the published package, makes an app in an empty folder, tests it, and runs it. The
// package comes from a tarball made here, its dependencies from the registry.

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
// npm scripts run on the Node that runs this test, whichever else the machine has.
const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
const env = {
  // Without this variable, or the inner test runner believes that it runs within another one and runs
  // nothing.
  ...inherited,
  PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH']}`,
  npm_config_update_notifier: 'false',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
}
let home: string
let tarball: string
let packed: readonly string[]

before(async () => {
  home = await mkdtemp(join(tmpdir(), 'hence-init-'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', home], { cwd: root, env })
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [
    { filename: string; files: { path: string }[] },
  ]
  tarball = join(home, filename)
  packed = files.map(({ path }) => path)
})
after(() => rm(home, { recursive: true, force: true }))

test('the package has neither sources nor source maps without sources, and no tests', () => {
  const own = packed.filter((path) => !path.startsWith('template/'))
  const strange = own.filter(
    (path) =>
      !/^(dist\/.*(\.js|\.d\.ts)|dist\/console\/[\w/-]+\.(html|css|svg)|package\.json|[A-Z]+(\.md)?)$/.test(
        path,
      ),
  )
  assert.deepEqual(strange, [])
  assert.ok(own.includes('SECURITY.md') && own.includes('dist/cli/main.js'))
  assert.ok(own.includes('dist/console/index.html'))
  assert.ok(!own.some((path) => path.includes('.test.')))
})

test('npm install, hence init, npm install && npm test && npm start', { timeout: 300_000 }, async () => {
  const tool = join(home, 'tool')
  await mkdir(tool)
  await writeFile(join(tool, 'package.json'), '{"private":true}')
  await run('npm', ['install', '--prefer-offline', tarball], { cwd: tool, env })
  const hence = join(tool, 'node_modules/.bin/hence')

  const shop = join(home, 'My Shop')
  const { stdout } = await run(hence, ['init', shop, '--json'], { env })
  const { files } = JSON.parse(stdout)
  assert.deepEqual(files.toSorted(), ['.gitignore', 'README.md', 'package.json', 'shop.test.ts', 'shop.ts'])
  assert.deepEqual((await readdir(shop)).sort(), files.toSorted())
  assert.ok((await readFile(join(shop, 'README.md'), 'utf8')).split('\n').length <= 13, 'ten lines or so')
  await assert.rejects(run(hence, ['init', shop], { env }), (error: { code: number; stderr: string }) => {
    assert.equal(error.code, 1)
    assert.match(error.stderr, /folder-not-empty/)
    return true
  })

  const manifest = JSON.parse(await readFile(join(shop, 'package.json'), 'utf8'))
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  assert.deepEqual([manifest.name, manifest.dependencies.hence], ['my-shop', `^${version}`])
  // The version under test is not in the registry.
  manifest.dependencies.hence = `file:${tarball}`
  await writeFile(join(shop, 'package.json'), JSON.stringify(manifest))

  await run('npm', ['install', '--prefer-offline'], { cwd: shop, env })
  const tested = await run('npm', ['test'], { cwd: shop, env })
  assert.match(tested.stdout, /pass 4/)

  const started = spawn('npm', ['start', '--', '--port', '0'], {
    cwd: shop,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    // A process group, since a signal to npm alone would not reach the process that it started.
    detached: true,
  })
  try {
    let url: string | undefined
    for await (const line of createInterface({ input: started.stdout })) {
      url = /listens on (http:\S+)/.exec(line)?.[1]
      if (url) break
    }
    assert.ok(url, 'npm start exited before it listened')
    const readme = await readFile(join(shop, 'README.md'), 'utf8')
    const commands = [...readme.matchAll(/^ *npx (hence submit .*)$/gm)].map((match) => match[1]!)
    assert.equal(commands.length, 2)
    const shell = (command: string) =>
      run('sh', ['-c', `node_modules/.bin/${command}`], { cwd: shop, env: { ...env, HENCE_URL: url } })
    for (const command of commands) assert.match((await shell(command)).stdout, /^accepted /)

    // The examples of the help work in the same app.
    const help = (await run(hence, ['--help'], { env })).stdout
    const examples = [...help.matchAll(/^ {2}(hence .*)$/gm)].map((match) => match[1]!)
    assert.ok(examples[0]!.startsWith('hence init') && examples.length > 4)
    for (const example of examples.slice(1)) await shell(example)
  } finally {
    process.kill(-started.pid!, 'SIGTERM')
    await once(started, 'close')
  }
})
