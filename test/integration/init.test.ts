import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { crashAt } from '../crash-points.ts'
import { freePort } from '../free-port.ts'
import { openChromium } from './chromium.ts'
import { watchedTab } from './console-house.ts'
import { consoleBlocks, typeCommands } from './typed-commands.ts'

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
  // Packing builds, which removes the console that another test may be serving: so it is done in a copy.
  const source = join(home, 'source')
  const { stdout: tracked } = await run('git', ['ls-files', '-z'], { cwd: root, env })
  for (const file of tracked.split('\0').filter(Boolean)) {
    await cp(join(root, file), join(source, file))
  }
  await symlink(join(root, 'node_modules'), join(source, 'node_modules'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', home], { cwd: source, env })
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [
    { filename: string; files: { path: string }[] },
  ]
  tarball = join(home, filename)
  packed = files.map(({ path }) => path)
})
after(() => rm(home, { recursive: true, force: true }))

test('the package has neither sources nor source maps without sources, and no tests', () => {
  const own = packed.filter((path) => !/^(template|kit|docs|bench|examples)\//.test(path))
  const strange = own.filter(
    (path) =>
      !/^(dist\/.*(\.js|\.d\.ts)|dist\/console\/[\w/-]+\.(html|css|svg)|package\.json|llms\.txt|[A-Z]+(\.md)?)$/.test(
        path,
      ),
  )
  assert.deepEqual(strange, [])
  assert.ok(own.includes('SECURITY.md') && own.includes('dist/cli/main.js'))
  assert.ok(own.includes('dist/console/index.html'))
  assert.ok(!own.some((path) => path.includes('.test.')))
})

test('the links of the package lead to files of the package', async () => {
  for (const page of packed.filter((path) => path.endsWith('.md'))) {
    const text = await readFile(join(root, page), 'utf8')
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
      const file = join(page, '..', target!)
      const isFolder = packed.some((path) => path.startsWith(`${file}/`))
      assert.ok(isFolder || packed.includes(file), `${page} links to ${target}, which is not in the package`)
    }
  }
})

test('npm install, hence init, npm install && npm test && npm start', { timeout: 300_000 }, async () => {
  const tool = join(home, 'tool')
  await mkdir(tool)
  await writeFile(join(tool, 'package.json'), '{"private":true}')
  const creator = join(root, 'kit/create-hence')
  const { stdout: made } = await run('npm', ['pack', '--json', '--pack-destination', home], {
    cwd: creator,
    env,
  })
  const [{ filename }] = JSON.parse(made) as [{ filename: string }]
  await run('npm', ['install', '--prefer-offline', tarball, join(home, filename)], { cwd: tool, env })
  const hence = join(tool, 'node_modules/.bin/hence')

  // `npm create hence` runs this, with the `hence` of its own version.
  const hotel = join(home, 'hotel')
  const create = join(tool, 'node_modules/.bin/create-hence')
  await run(create, [hotel, '--template', 'bookings'], { env })
  assert.ok((await readdir(hotel)).includes('bookings.ts'))
  const packages = [join(root, 'package.json'), join(creator, 'package.json')]
  const versions = await Promise.all(packages.map(async (path) => JSON.parse(await readFile(path, 'utf8'))))
  assert.equal(versions[1].version, versions[0].version)
  assert.equal(versions[1].dependencies.hence, versions[0].version)

  const shop = join(home, 'My Shop')
  const { stdout } = await run(hence, ['init', shop, '--json'], { env })
  const { files } = JSON.parse(stdout)
  assert.deepEqual(files.toSorted(), [
    '.gitignore',
    'AGENTS.md',
    'README.md',
    'package.json',
    'shop.test.ts',
    'shop.ts',
  ])
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

test(crashAt('log sealed', 'the first five minutes, word for word'), { timeout: 600_000 }, async (t) => {
  const browser = await openChromium()
  if (typeof browser === 'string') return t.skip(browser)
  t.after(() => browser.close())
  const page = await readFile(join(root, 'docs/first-five-minutes.md'), 'utf8')
  /** Checks that the page says so, before it is done. */
  const says = <Text extends string>(text: Text): Text => {
    assert.ok(page.replaceAll(/\s+/g, ' ').includes(text), `the page does not say: ${text}`)
    return text
  }
  const tool = join(home, 'five')
  await mkdir(tool)
  await writeFile(join(tool, 'package.json'), '{"private":true}')
  await run('npm', ['install', '--prefer-offline', tarball], { cwd: tool, env })
  await run('sh', ['-c', says('npx hence init hotel --template bookings && cd hotel')], { cwd: tool, env })
  const cwd = join(tool, 'hotel')
  const manifest = await readFile(join(cwd, 'package.json'), 'utf8')
  // The version under test is not in the registry.
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  await writeFile(join(cwd, 'package.json'), manifest.replace(`"^${version}"`, `"file:${tarball}"`))
  await run('npm', ['install', '--prefer-offline'], { cwd, env })

  const port = `${await freePort()}`
  const url = `http://127.0.0.1:${port}`
  const own = { ...env, PORT: port, HENCE_URL: url }
  const start = async () => {
    const running = spawn('npm', says('npm start').split(' ').slice(1), {
      cwd,
      env: own,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    const lines = createInterface({ input: running.stdout })[Symbol.asyncIterator]()
    const line = async (fits: RegExp) => {
      for (;;) {
        const { value, done } = await lines.next()
        assert.ok(!done, `npm start ended before it printed ${fits}`)
        if (fits.test(value)) return value as string
      }
    }
    await line(/listens on/)
    return { running, line }
  }
  const blocks = [...consoleBlocks(page)]
  /** Types the commands of the next block, and compares what they print. */
  const terminal = () =>
    typeCommands(blocks.shift()!.replaceAll('http://127.0.0.1:4362', url), { cwd, env: own })

  let { running, line } = await start()
  t.after(async () => {
    if (running.exitCode !== null || running.signalCode !== null) return
    process.kill(-running.pid!, 'SIGTERM')
    await once(running, 'close')
  })
  const { page: tab, faults } = await watchedTab(await browser.newContext(), `${url}/console/`)
  tab.setDefaultTimeout(60_000)
  await tab.goto(`${url}/console`)
  const view = (name: string) => tab.getByRole('link', { name }).first().click()
  const button = (name: string | RegExp) => tab.getByRole('button', { name })
  const enter = (label: string, value: string) =>
    tab.getByRole('textbox', { name: label, exact: true }).fill(value)

  says('under **Send**')
  await view('Send')
  await tab.getByRole('combobox', { name: 'Request' }).selectOption(says('open-night'))
  await enter('night', says('2027-06-01'))
  await enter('rooms', '2')
  says('press **Send**: _accepted_')
  await button('Send').click()
  await tab.getByText('accepted', { exact: true }).waitFor()
  await tab.getByRole('combobox', { name: 'Request' }).selectOption('book')
  says('enter `b1`, `2027-06-01` and the guest `ada`')
  await enter('booking', 'b1')
  await enter('night', '2027-06-01')
  await enter('guest', 'ada')
  await button('Send').click()
  await tab.getByText('accepted', { exact: true }).waitFor()

  const crashed = once(running, 'close')
  await terminal()
  await crashed
  ;({ running, line } = await start())
  await button(says('Send again')).click()
  await tab.getByText(says('decided before')).waitFor()
  await terminal()

  await terminal()
  await view(says('Violations'))
  await tab.getByText('1 over', { exact: true }).waitFor()
  // The keys work once somebody can have seen the form.
  await tab.locator('[aria-keyshortcuts="c"]').waitFor()
  says('Press `c`, type the reason `The roof leaks.`, and press Enter.')
  await tab.keyboard.press('c')
  await tab.keyboard.type('The roof leaks.')
  await tab.keyboard.press('Enter')
  assert.match(await line(/sorry/), /^To cy: we are sorry about 2027-06-01\. \(.+\)$/)
  await terminal()

  const app = join(cwd, 'bookings.ts')
  const code = await readFile(app, 'utf8')
  const [, from, to] = /replace\s`(.+?)` with\s`(.+?)`/.exec(page)!
  assert.ok(code.includes(from!))
  await writeFile(app, code.replace(from!, to!))
  await terminal()
  await view(says('Reprocess'))
  await button(says('Approve exactly')).click()
  await tab.getByText('Generation 1 is live').waitFor()
  await button(says('Roll back exactly')).waitFor()
  await terminal()
  assert.deepEqual(blocks, [])
  assert.deepEqual(faults, [])
})
