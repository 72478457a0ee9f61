import assert from 'node:assert/strict'
import { execFile, fork } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bundleApp, createEngine, type WithViews } from 'hence'
import { openSql } from 'hence/offline'
import type * as heavy from '../apps/heavy-fill.ts'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'
import { appsOf } from '../apps.ts'
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

/** Runs an engine that has little memory. */
function runHeavy(data: string, modules: string): Promise<{ died: boolean; said: string[] }> {
  const main = fileURLToPath(import.meta.resolve('./heavy-view-process.ts'))
  const args = ['-C', 'hence-source', '--max-old-space-size=48', main, data, modules]
  return new Promise((resolve) =>
    execFile(process.execPath, args, (error, text) =>
      resolve({ died: error !== null, said: text.split('\n').filter(Boolean) }),
    ),
  )
}

test('a view that has ended two processes is named and stops, and the others go on', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-views-'))
  t.after(() => rm(home, { recursive: true }))
  const data = join(home, 'data')
  const engine = await createEngine<typeof sales>({ app, data, report: () => {} })
  const tokens: string[] = []
  for (const order of ['o1', 'o2', 'o3', 'o4'])
    tokens.push((await engine.submit('cancel', { order }, { requestId: order })).token)
  await engine.close()
  const { code, ...module } = await bundleApp(import.meta.resolve('../apps/heavy-views.ts'))
  const modules = join(home, 'modules.json')
  await writeFile(modules, JSON.stringify({ app, views: [{ ...module, code }] }))
  const run = () => runHeavy(data, modules)
  assert.deepEqual(await run(), { died: true, said: [] })
  // It names the first of the records that were folded together. Two more processes, which fold each by
  // itself, name the right one:
  const note = join(data, 'state/folding.json')
  const named = JSON.parse(await readFile(note, 'utf8'))
  assert.deepEqual([`${named.partition}:${named.offset}`, named.begun], [tokens[0], 1])
  const [partition, offset] = tokens[2]!.split(':').map(Number)
  await writeFile(note, JSON.stringify({ ...named, partition, offset, begun: 2 }))
  const last = await run()
  const [alarm = '', ...states] = last.said
  const where = `The view "heavy" stopped at record ${offset} of partition ${partition}: it ended 2 processes`
  assert.ok(alarm.startsWith(`view-failed: ${where}`), alarm)
  assert.deepEqual(states, ['heavy failed', 'counts following'])
  // The same code is not tried again with the same memory.
  assert.deepEqual(await run(), last)
  const views = [{ ...module, code: code.replace('n===3', 'n<0'), hash: 'a'.repeat(64) }]
  const mended = await createEngine({ app, data, views, report: () => {} })
  assert.deepEqual(await mended.get('heavy' as never, ['all'] as never), { n: 4 })
  await mended.close()
})

test('a fill that has ended two processes is named and refused, and mended code fills the table', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-views-'))
  t.after(() => rm(home, { recursive: true }))
  const data = join(home, 'data')
  const { bare, filled } = appsOf<typeof heavy>(import.meta.resolve('../apps/heavy-fill.ts'))
  const engine = await createEngine({ app: await bare(), data, report: () => {} })
  const tokens: string[] = []
  for (const id of ['r1', 'r2', 'r3', 'r4'])
    tokens.push((await engine.submit('add', { box: 'b' }, { requestId: id })).token)
  await engine.close()
  const modules = join(home, 'modules.json')
  await writeFile(modules, JSON.stringify({ app: await filled(true), onCodeChange: 'continue' }))
  const run = () => runHeavy(data, modules)
  const died = { died: true, said: [] }
  // The first names the first of the records that were folded together, and the others the right one.
  for (let life = 1; life <= 3; life++) assert.deepEqual(await run(), died)
  await cp(data, join(home, 'after'), { recursive: true })
  const [partition, offset] = tokens[2]!.split(':')
  const refused = await run()
  const where = `The fill of the table "others" stopped at record ${offset} of partition ${partition}: it ended 2 processes`
  assert.ok(refused.said[0]?.startsWith(`fill-failed: ${where}`), refused.said[0] ?? 'it died')
  // A process that has died says nothing about other code.
  for (const mended of [data, join(home, 'after')]) {
    const options = { app: await filled(false), data: mended, onCodeChange: 'continue' as const }
    const engine = await createEngine({ ...options, report: () => {} })
    assert.deepEqual(await engine.get('others', ['b']), { n: 4 })
    await engine.close()
  }
})
