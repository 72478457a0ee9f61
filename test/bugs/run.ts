/**
 * Runs the seeded bugs: each must make its test fail, which passes without it.
 *
 *   node test/bugs/run.ts [--sample N] [ID…]
 *
 * A sample is chosen by the commit (by the day, without git), of the bugs that are noticed soon, so that each
 * has its turn.
 */
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Bug, bugs, lineOf } from './bugs.ts'

const root = join(import.meta.dirname, '../..')
const timeoutMs = 300_000
/** Processes at a time. */
const parallel = 2
const { values, positionals } = parseArgs({ options: { sample: { type: 'string' } }, allowPositionals: true })
const home = mkdtempSync(join(tmpdir(), 'hence-bugs-'))

function chosen(): readonly Bug[] {
  const named = positionals.length > 0 ? bugs.filter(({ id }) => positionals.includes(id)) : bugs
  if (values.sample === undefined) return named
  const { status, stdout } = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' })
  const commit = status === 0 ? stdout : new Date().toISOString().slice(0, 10)
  const rank = ({ id }: Bug) =>
    createHash('sha256')
      .update(commit + id)
      .digest('hex')
  return named
    .filter(({ isSlow }) => !isSlow)
    .sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
    .slice(0, Number(values.sample))
}

type Found = {
  readonly passed: number
  readonly failed: number
  readonly ms: number
  readonly output: string
}

/** Runs a test, with a bug or without. */
function run([file, name]: Bug['test'], bug?: Bug): Promise<Found> {
  const pattern = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const args = [
    '-C',
    'hence-source',
    '--test',
    '--test-force-exit',
    '--test-reporter=tap',
    `--test-name-pattern=${pattern}`,
    file,
  ]
  const { NODE_TEST_CONTEXT: _, NODE_COMPILE_CACHE: __, ...env } = process.env
  const mark = join(home, bug?.id ?? 'none')
  const more = bug && {
    HENCE_BUG: bug.id,
    HENCE_BUG_MARK: mark,
    NODE_OPTIONS: `--import=${join(import.meta.dirname, 'hook.ts')}`,
  }
  const startedAt = performance.now()
  return new Promise((resolve, reject) => {
    const options = { cwd: root, env: { ...env, ...more }, timeout: timeoutMs, maxBuffer: 2 ** 28 }
    execFile(process.execPath, args, options, (error, stdout, stderr) => {
      const count = (what: string) => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)?.[1] ?? 0)
      const output = stdout + stderr
      if (bug && !existsSync(mark))
        return reject(new Error(`${bug.id}: ${file} does not load src/${bug.file}`))
      if (/does not apply/.test(output)) return reject(new Error(`the seeded bug ${bug?.id} does not apply`))
      // A test that a bug makes endless is ended here, and has noticed it.
      const failed = count('fail') + count('cancelled') + (error?.killed ? 1 : 0)
      resolve({ passed: count('pass'), failed, ms: performance.now() - startedAt, output })
    })
  })
}

const all = chosen()
const missed: string[] = []
const greens = new Map<string, Promise<Found>>()
const queue = [...all]
console.log('| seeded bug | in | noticed by | seconds |\n| --- | --- | --- | --- |')
await Promise.all(
  Array.from({ length: parallel }, async () => {
    for (let bug = queue.shift(); bug !== undefined; bug = queue.shift()) {
      const [file, name] = bug.test
      const green = greens.get(file + name) ?? run(bug.test)
      greens.set(file + name, green)
      const { passed, failed, output } = await green
      const red = await run(bug.test, bug).catch((error: Error) => error)
      if (red instanceof Error) missed.push(red.message)
      else if (passed === 0 || failed > 0) missed.push(`"${name}" in ${file} fails without a bug:\n${output}`)
      else if (red.failed === 0) missed.push(`"${name}" in ${file} does not notice ${bug.id}`)
      const seconds = red instanceof Error ? '-' : (red.ms / 1000).toFixed(1)
      console.log(`${lineOf(bug)} ${seconds} |`)
    }
  }),
)
rmSync(home, { recursive: true })
console.log(`\n${all.length - missed.length} of ${all.length} seeded bugs were noticed.`)
for (const each of missed) console.error(each)
process.exitCode = missed.length === 0 ? 0 : 1
