import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { test } from 'node:test'
import { crashPoints } from '../crash-points.ts'

// Rules for the tests themselves: crashes have names, and failures of random runs are kept and replayed.

const root = resolve(import.meta.dirname, '..')
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) =>
  /\.test\.ts$/.test(file),
)
const textOf = (file: string) => readFileSync(join(root, file), 'utf8')
const house = files.filter((file) => !file.startsWith('house/'))

/** Files that kill processes only to clean up after themselves. */
const onlyCleanUp = ['faults/deploy.test.ts', 'faults/errnos.test.ts', 'integration/cli.test.ts']

test('every test that crashes a process names its crash points', () => {
  for (const file of house) {
    if (!/'SIGKILL'|\.crash\(\)|losePower\(\)/.test(textOf(file)) || onlyCleanUp.includes(file)) continue
    assert.match(textOf(file), /crashAt\(/, `test/${file} crashes a process: name its tests with crashAt()`)
  }
})

test('every crash point has a test', () => {
  const all = house.map(textOf).join('\n')
  for (const point of Object.keys(crashPoints))
    assert.ok(all.includes(`'${point}'`), `no test crashes at "${point}"`)
})

test('every random suite replays its kept failures first, and every kept failure belongs to a suite', () => {
  const random = files.filter(
    (file) => /^(simulation|model)\//.test(file) && /randomFrom|randomWorld|fast-check/.test(textOf(file)),
  )
  const suites = random.map((file) => basename(file, '.test.ts'))
  for (const file of random) {
    const suite = basename(file, '.test.ts')
    const text = textOf(file)
    const replay = text.search(new RegExp(`replayKept(<\\w+>)?\\('${suite}'`))
    assert.ok(replay >= 0, `test/${file} does not replay test/regressions/${suite}.json`)
    assert.ok(replay < text.search(/^test\(/m), `test/${file} replays kept failures too late`)
  }
  const kept = readdirSync(join(root, 'regressions'))
  assert.deepEqual(kept.sort(), suites.map((suite) => `${suite}.json`).sort())
  for (const file of kept) {
    const cases = JSON.parse(readFileSync(join(root, 'regressions', file), 'utf8')) as { why?: string }[]
    assert.ok(cases.length > 0, `test/regressions/${file} is empty`)
    for (const { why } of cases) assert.ok(why, `a case of test/regressions/${file} has no reason`)
  }
})
