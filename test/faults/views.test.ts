import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bundleApp, createEngine, type WithViews } from 'hence'
import { openSql } from 'hence/offline'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'

// An engine with views is killed again and again, while views are derived, fed and saved, change their code,
// and follow another generation. At the end the rows must be those of views that are derived from the log
// alone: a row that a crash lost, doubled or moved would show there.

const kills = Number(process.env['HENCE_KILLS'] ?? 4)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))

const app = await bundleApp<never>(import.meta.resolve('../apps/sales.ts'))
const { code, files } = await bundleApp(import.meta.resolve('../apps/sales-views.ts'))
/** That of the last process, whose rows have outlived kills. */
const changed = `${code}\n/* ${Math.floor((kills - 1) / 3)} */`
const module = { code: changed, hash: createHash('sha256').update(changed).digest('hex'), files }

async function rowsIn(data: string): Promise<unknown[][]> {
  const engine = await createEngine<WithViews<typeof sales, typeof views>>({
    app,
    data,
    views: [module],
    report: () => {},
  })
  const rows: unknown[][] = []
  try {
    await engine.idle()
    for (;;) {
      const all = engine.stats().views
      assert.deepEqual(
        all.flatMap(({ error }) => error ?? []),
        [],
      )
      if (all.every(({ state, records, of }) => state === 'following' && records === of)) break
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const sums = new Map<string, number>()
    for (const { value } of await engine.scan('orders'))
      sums.set(value.sku, (sums.get(value.sku) ?? 0) + value.cents)
    const bySku = await engine.scan('by-sku')
    for (const { key, value } of bySku) assert.equal(value.cents, sums.get(key[0]) ?? 0, key[0])
    rows.push(bySku, await engine.scan('journal'))
  } finally {
    await engine.close()
  }
  const sql = openSql(data)
  const bySku = sql.prepare('SELECT * FROM by_sku ORDER BY key').all()
  assert.deepEqual(
    bySku.map(({ key, ...value }) => ({ key: [key], value })),
    rows[0],
  )
  const lines = sql.prepare('SELECT * FROM lines ORDER BY key, part1').all()
  assert.deepEqual(
    lines.map(({ key, part1, text }) => ({ key: [key, part1], value: { text } })),
    rows[1],
  )
  sql.close()
  return rows
}

/** Whatever moment a process died at, SQL finds the lines up to one of them, and none half. */
function checkLines(data: string): void {
  const sql = openSql(data)
  const isThere = sql.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'lines'").get()
  const [found] = isThere ? sql.prepare('SELECT count(*) AS n, max(part1) AS last FROM lines').all() : []
  assert.equal(found?.['last'] ?? 0, found?.['n'] ?? 0)
  sql.close()
}

for (const partitions of [1, 8]) {
  const name = crashAt(
    'views',
    `${kills} kills, views are as if derived at once (${partitions} partitions, HENCE_SEED=${seed})`,
  )
  test(name, { timeout: 3_600_000 }, async (t) => {
    const random = randomFrom(seed + partitions)
    const home = await mkdtemp(join(tmpdir(), 'hence-views-'))
    t.after(() => rm(home, { recursive: true }))
    const data = join(home, 'data')
    for (let life = 0; life < kills; life++) {
      const path = fileURLToPath(import.meta.resolve('./views-process.ts'))
      const child = fork(path, [data, String(partitions), String(life)], {
        execArgv: ['-C', 'hence-source'],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      })
      const exited = once(child, 'exit')
      await once(child, 'message')
      // At any moment of a promotion too.
      const ms = Math.floor(random() * (life % 4 === 1 ? 1_500 : 300))
      await new Promise((resolve) => setTimeout(resolve, ms))
      child.kill('SIGKILL')
      assert.equal((await exited)[1], 'SIGKILL')
      checkLines(data)
    }
    const rows = await rowsIn(data)
    assert.ok(rows[1]!.length > 0)
    const copy = join(home, 'copy')
    await cp(join(data, 'log'), join(copy, 'log'), { recursive: true })
    await cp(join(data, 'code'), join(copy, 'code'), { recursive: true })
    assert.deepEqual(await rowsIn(copy), rows)
  })
}
