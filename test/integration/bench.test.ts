import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import type { Result } from '../../bench/result.ts'

// The whole bench as a process, as small as possible: it must run to its end, and measure every line.

const main = join(import.meta.dirname, '../../bench/main.ts')

/** How the lines begin that every run must print; those of PostgreSQL only where it is installed. */
const lines = [
  'bare loop, 1 in flight',
  'engine.submit, 1 in flight',
  'engine.submit, 64 in flight',
  'the same with ready-made bytes, 1024 in flight',
  'engine.submit, 1024 in flight',
  'the same id again, 1024 in flight',
  'one strict claim, in one partition',
  'one loose claim, across partitions',
  'Hono "hello"',
  'POST /requests/pay',
  'POST /requests, one batch of NDJSON',
  'reading the log',
  'replay of all records',
  'peak resident memory of that replay',
  'reprocess beside an idle engine',
  'diff of two equal generations',
  'verify: bytes',
  'verify: history',
  'submit, 1 in flight, beside a reprocess',
  'submit, 64 in flight, beside a reprocess',
  'ready after kill -9',
  'engine.submit up to 10,000 records',
  'resident memory at 10,000 requests',
  'ready after kill -9 with 10,000 records',
]

test('a tiny run of the whole bench measures every line, each rate with its processor time', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-bench-'))
  t.after(() => rm(directory, { recursive: true }))
  const args = ['-C', 'hence-source', main, '--tiny', '--json', '--directory', directory]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 })
  const { results } = JSON.parse(stdout) as { results: readonly Result[] }
  for (const line of lines) {
    assert.ok(
      results.some(({ what }) => what.startsWith(line)),
      `no line "${line}" in ${results.map(({ what }) => what).join('; ')}`,
    )
  }
  for (const { what, figure, unit, processorMicros, p50, p99 } of results) {
    assert.ok(figure > 0 && Number.isFinite(figure), `${what}: ${figure}`)
    if (p50 !== undefined) assert.ok(p50 > 0 && p50 <= p99!, `${what}: p50 ${p50}, p99 ${p99}`)
    // Processor time of other processes is known on Linux alone.
    if (!unit.endsWith('/s') || process.platform !== 'linux') continue
    assert.ok(processorMicros !== undefined && processorMicros >= 0, `${what}: ${processorMicros} µs`)
  }
  assert.deepEqual(await readdir(directory), [], 'it leaves nothing behind')
})
