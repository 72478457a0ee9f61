import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

// `npm run test:bugs` runs all of them. This sample, another one for each commit, keeps the list honest.

const run = promisify(execFile)

test('four seeded bugs, chosen by the commit, are noticed by their tests', async (t) => {
  const { stdout } = await run(process.execPath, [
    join(import.meta.dirname, '../bugs/run.ts'),
    '--sample',
    '4',
  ])
  assert.match(stdout, /4 of 4 seeded bugs were noticed/)
  t.diagnostic(stdout)
})
