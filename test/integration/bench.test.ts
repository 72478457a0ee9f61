import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import type { Goal } from '../../bench/goals.ts'
import type { Result } from '../../bench/result.ts'
import { realOrders } from './retail-process.ts'

// The whole bench as a process, as small as possible: it must run to its end, and measure every line.

const main = join(import.meta.dirname, '../../bench/main.ts')

interface Output {
  readonly results: readonly Result[]
  readonly goals: readonly Goal[]
  readonly skipped: readonly string[]
}

/** How the lines begin that every run must print; those of PostgreSQL only where it is installed. */
const lines = [
  'bare loop, 1 in flight',
  'engine.submit, 1 in flight',
  'engine.submit, 64 in flight',
  'the same with ready-made bytes, 1024 in flight',
  'engine.submit, 1024 in flight',
  'the same id again, 1024 in flight',
  'one strict claim, in one partition',
  'strict claims of two keys, in one partition',
  'strict claims of two keys, across partitions',
  'one loose claim, across partitions',
  'Hono "hello"',
  'a POST on node:http that parses the same body',
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
  'the longest wait for a promotion',
  'a view built over a log beside an idle engine',
  'submit, 64 in flight, while a view is built',
  'ready after kill -9',
  'arriving at 90 % of saturation',
  'arriving at half of saturation',
  'longest step: a limit falls to 0 under 80 claims',
  'longest step: 300 timers are due at once',
  'longest step: 120 no-shows are settled',
  'the shop imports made-up orders on 1 partition',
  'the shop imports made-up orders on 8 partitions',
  'everything outside the log',
  'peak anonymous memory of that import',
  'transfers from a hot account: engine.submit',
  'loose bookings while their judge is cut off',
  'SQLite, 1 request a transaction',
  'SQLite, 64 requests a transaction',
  'transfers from a hot account: SQLite',
  'engine.submit up to 10,000 records',
  'resident memory at 10,000 requests',
  'anonymous memory at 10,000 requests',
  'ready after kill -9 with 10,000 records',
]

test('a tiny run of the whole bench measures every line, each rate with its processor time', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'hence-bench-'))
  t.after(() => rm(directory, { recursive: true }))
  const plots = join(directory, 'plots')
  const args = ['-C', 'hence-source', main, '--tiny', '--json', '--directory', directory, '--plots', plots]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 })
  const { results, goals, skipped } = JSON.parse(stdout) as Output
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
  // Shards on threads do not exist yet.
  const open = goals.filter(({ met }) => met === undefined)
  assert.deepEqual(
    open.map(({ work }) => work),
    ['the same on shards (threads)'],
  )
  const hasPostgres = results.some(({ what }) => what.startsWith('PostgreSQL by a stored procedure'))
  assert.equal(
    skipped.some((line) => line.startsWith('PostgreSQL')),
    !hasPostgres,
  )
  assert.equal(
    skipped.some((line) => line.startsWith('the import of the real file')),
    realOrders === undefined,
  )
  const drawn = await readdir(plots)
  assert.deepEqual(drawn.sort(), ['cut.svg', 'growth.svg', 'latency.svg', 'load.svg', 'throughput.svg'])
  for (const file of drawn) {
    const svg = await readFile(join(plots, file), 'utf8')
    assert.match(svg, /<polyline points="\d/)
    assert.doesNotMatch(svg, /NaN|Infinity/, file)
  }
  await rm(plots, { recursive: true })
  assert.deepEqual(await readdir(directory), [], 'it leaves nothing behind')
})
