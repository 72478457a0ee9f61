import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { bugs, lineOf } from '../bugs/bugs.ts'
import { llmsTxt } from '../llms.ts'
import { mayImport } from './rooms.ts'

// The pages for contributors are true: rooms, file names, claims about the source, environment variables.

const root = resolve(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const under = (folder: string) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file))
const withoutFences = (text: string) => text.replaceAll(/^```.*?^```$/gms, '')

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...under('docs').filter((file) => file.endsWith('.md')),
]

test('the rooms of ARCHITECTURE.md are those of src, each below the rooms that it imports', () => {
  const rooms = [...read('docs/ARCHITECTURE.md').matchAll(/^\| `src\/(\w+)\/`/gm)].map((match) => match[1]!)
  assert.deepEqual(
    [...rooms].sort(),
    Object.keys(mayImport)
      .filter((room) => room !== 'shared')
      .sort(),
  )
  for (const [at, room] of rooms.entries()) {
    for (const imported of mayImport[room]!) {
      if (imported === 'shared') continue
      assert.ok(
        rooms.indexOf(imported) < at,
        `src/${room}/ imports src/${imported}/, which is below it in the table`,
      )
    }
  }
  const folders = readdirSync(join(root, 'src'), { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  )
  assert.deepEqual(folders.map(({ name }) => name).sort(), [...rooms].sort())
})

test('files and folders that the pages name exist', () => {
  for (const page of pages) {
    const text =
      page.endsWith('ARCHITECTURE.md') || page === 'CONTRIBUTING.md' ? read(page) : withoutFences(read(page))
    for (const [path] of text.matchAll(/(?<![\w/.-])(?:src|test|examples|bench|docs)\/[\w./-]*[\w/]/g)) {
      if (!/SUITE|NAME/.test(path)) assert.ok(existsSync(join(root, path)), `${page} names ${path}`)
    }
  }
})

test('CONTRIBUTING.md lists every environment variable of the tests, and no other', () => {
  const used = new Set<string>()
  for (const file of ['test', 'bench', 'examples'].flatMap(under)) {
    if (!file.endsWith('.ts')) continue
    for (const [, name] of read(file).matchAll(/process\.env\['(HENCE_\w+)'\]/g)) used.add(name!)
  }
  // These belong to users, and are in the reference of the command line.
  for (const name of ['HENCE_URL', 'HENCE_KEY', 'HENCE_PUBLISH_SECRET']) used.delete(name)
  const listed = [...read('CONTRIBUTING.md').matchAll(/^\| `(HENCE_\w+)`/gm)].map((match) => match[1]!)
  assert.deepEqual([...listed].sort(), [...used].sort())
})

test('every promise of guarantees.md names a test that shows it', () => {
  const promises = read('docs/explanation/guarantees.md').split('\n## Promises\n')[1]!.split('\n## ')[0]!
  const numbered = promises.split(/^\*\*(?=\d+\. )/m).slice(1)
  assert.ok(numbered.length >= 16)
  for (const [at, promise] of numbered.entries()) {
    assert.ok(promise.startsWith(`${at + 1}. `), `promise ${at + 1} has another number`)
    // That the file exists is checked above.
    assert.match(promise, /`(?:src|test)\/[\w/-]+\.test\.ts`/, promise.slice(0, 60))
  }
})

test('every seeded bug applies, and the test that must notice it exists', () => {
  assert.ok(bugs.length >= 40)
  assert.equal(new Set(bugs.map(({ id }) => id)).size, bugs.length)
  for (const bug of bugs) {
    const [file, name] = bug.test
    assert.equal(
      read(`src/${bug.file}`).split(bug.old).length,
      2,
      `${bug.id} does not apply to src/${bug.file}`,
    )
    assert.ok(read(file).includes(name), `${file} has no test "${name}", which must notice ${bug.id}`)
  }
})

test('seeded-bugs.md lists every seeded bug', () => {
  // The formatter pads the cells.
  const lines = read('docs/explanation/seeded-bugs.md').replaceAll(/ +\|/g, ' |').split('\n')
  assert.deepEqual(lines.filter((line) => line.endsWith(' |')).slice(2), bugs.map(lineOf))
})

/** Alarms with the code of an error that they pass on: where, and which. */
const passedOn: Readonly<Record<string, readonly string[]>> = {
  'src/audit/auditor.ts': ['audit-failed', 'head-mismatch', 'log-shorter-than-head'],
  'src/audit/scrubber.ts': ['log-damaged', 'rehearsal-differs', 'scrub-failed'],
  'src/engine/request-path.ts': ['engine-stopped', 'writes-held-up'],
  'src/view/views.ts': ['view-failed'],
}

test('operate.md says what to do about every alarm, and about no other', () => {
  const own: string[] = []
  const passing = new Set<string>()
  for (const file of under('src').filter((file) => /(?<!\.test)\.ts$/.test(file))) {
    const sites = read(file).matchAll(/'alarm'(?: : 'warning')?,\s*(?:code(?:: ([^,}]+))?|('[\w-]+'))/g)
    for (const [, named, bare] of sites) {
      const code = named ?? bare ?? 'passed on'
      if (code.startsWith("'")) own.push(code.slice(1, -1))
      // In the type of a function it is any text.
      else if (code !== 'string') passing.add(file)
    }
  }
  assert.deepEqual([...passing].sort(), Object.keys(passedOn))
  const rows = read('docs/how-to/operate.md').split('| alarm ')[1]!.split('\n\n')[0]!
  const listed = [...rows.matchAll(/^\| (`[^|]+`) +\|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([\w-]+)`/g)].map(([, code]) => code!),
  )
  assert.deepEqual(listed.sort(), [...new Set([...own, ...Object.values(passedOn).flat()])].sort())
})

test('the pictures that the pages show exist, each is shown, and they are small', () => {
  const shown = pages.flatMap((page) =>
    [...read(page).matchAll(/(?:src|srcset)="([^"]+)"/g)].map(([, path]) => join(page, '..', path!)),
  )
  const made = under('docs/pictures')
  assert.deepEqual([...new Set(shown)].sort(), made.sort(), '`npm run pictures` makes them')
  const bytes = made.reduce((sum, file) => sum + statSync(join(root, file)).size, 0)
  assert.ok(bytes < 600_000, `the pictures have ${bytes} bytes`)
})

test('llms.txt is the index of all pages, as the README lists them', async () => {
  assert.equal(read('llms.txt'), await llmsTxt(), '`npm run llms` writes it')
  for (const page of pages.filter((page) => page.startsWith('docs/')))
    assert.ok(read('llms.txt').includes(`(${page})`), `${page} is not in llms.txt: link it in the README`)
})

/** Metrics for looking into something, not for watching it. */
const notWatched = [
  'dirty_rows',
  'state_check_progress',
  'generation',
  'reprocess_records',
  'reprocess_failures',
]

test('every metric is in the dashboard or an alert of the kit, unless nobody watches it', () => {
  const kit = read('kit/grafana/hence.json') + read('kit/prometheus/alerts.yaml')
  const metrics = [...read('src/server/metrics.ts').matchAll(/(?:gauge|metric)\(\s*'(\w+)'/g)]
  assert.ok(metrics.length > 20)
  assert.deepEqual(
    metrics.map(([, name]) => name!).filter((name) => !new RegExp(`hence_${name}\\b`).test(kit)),
    notWatched,
  )
})
