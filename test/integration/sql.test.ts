import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, open, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bundleApp, createEngine, type Engine, type WithViews } from 'hence'
import { doctor, openSql } from 'hence/offline'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sql-views.ts'
import { hence } from '../hence-process.ts'

// Views in SQLite: their columns, what readers see while one is replaced, damage, and the command line.

type Sales = WithViews<typeof sales, typeof views>

const app = await bundleApp<never>(import.meta.resolve('../apps/sales.ts'))
const { code, files } = await bundleApp(import.meta.resolve('../apps/sql-views.ts'))
const moduleOf = (text: string) => ({
  ...{ code: text, files },
  hash: createHash('sha256').update(text).digest('hex'),
})
const fitting = code.replace(/,\s*\w+\s*\]\s*;?\s*(?=[^\]]*$)/, ']')

async function opened(data: string, modules: string[], report: (text: string) => void = () => {}) {
  const engine = await createEngine<Sales>({
    ...{ app, data, views: modules.map(moduleOf) },
    report: ({ level, code, message }) => report(`${level} ${code} ${message}`),
  })
  return engine
}

async function buy(engine: Engine<Sales>, orders: readonly [order: string, cents: number][]) {
  let token = ''
  for (const [order, cents] of orders) {
    const input = {
      order,
      sku: order === 'o1' || order === 'o2' ? 'mug' : `sku-${cents % 20}`,
      customer: 'ada',
      cents,
    }
    token = (await engine.submit('buy', input, { requestId: `buy-${order}` })).token
  }
  return token
}

async function directory(t: { after(act: () => Promise<void>): void }): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'hence-sql-'))
  t.after(() => rm(home, { recursive: true }))
  return join(home, 'data')
}

test('columns are made of the schema; rows that do not fit stop their view', async (t) => {
  const data = await directory(t)
  const reports: string[] = []
  const engine = await opened(data, [code], (text) => reports.push(text))
  const token = await buy(engine, [
    ['o1', 300],
    ['o2', 2_000],
  ])
  await engine.scan('allKinds', {}, { after: token })
  await assert.rejects(async () => {
    for (; ; await new Promise(setImmediate)) await engine.scan('wrong', {}, { after: token })
  }, /view "wrong" stopped when its rows were saved.*cannot store TEXT value in INTEGER column/)
  await engine.close()
  assert.ok(reports.some((text) => text.startsWith('alarm view-failed The view "wrong"')))
  const sql = openSql(data)
  const rows = sql.prepare('SELECT * FROM all_kinds ORDER BY part1').all()
  const common = { key: 'mug', key_: "it's mug", gone: null, tags: '["a","b"]', size: '{"width":2}' }
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    [
      { ...common, part1: 300, cents: 300, CENTS_: 150, isBig: 0, note: null, mixed: 'mug' },
      { ...common, part1: 2_000, cents: 2_000, CENTS_: 1_000, isBig: 1, note: 'big "one"', mixed: 2_000 },
    ],
  )
  assert.deepEqual(
    sql
      .prepare('SELECT key, value FROM lists')
      .all()
      .map((row) => ({ ...row })),
    ['o1', 'o2'].map((key) => ({ key, value: '["changed"]' })),
  )
  const types = sql.prepare(
    'SELECT name, type, "notnull" FROM pragma_table_xinfo(?) WHERE name NOT LIKE \'hence%\'',
  )
  const table = sql.prepare("SELECT name FROM sqlite_schema WHERE name LIKE '%t:allKinds'").get()!['name']!
  assert.deepEqual(
    types.all(table).map(({ name, type, notnull }) => `${name} ${type} ${notnull}`),
    [
      ...['key TEXT 1', 'part1 REAL 1', 'key_ TEXT 1', 'cents INTEGER 1', 'CENTS_ REAL 1', 'isBig INTEGER 1'],
      ...['note TEXT 0', 'gone INTEGER 0', 'tags TEXT 1', 'size TEXT 1', 'mixed ANY 1'],
    ],
  )
  const plan = sql.prepare('EXPLAIN QUERY PLAN SELECT * FROM all_kinds WHERE cents = 300').all()
  assert.match(JSON.stringify(plan), /USING INDEX/)
  assert.throws(() => sql.exec('DROP VIEW lists'), /readonly/)
  sql.close()
})

test('a reader sees the rows before or those of new code, and never a mixture or none', async (t) => {
  const data = await directory(t)
  const engine = await opened(data, [fitting])
  const orders = Array.from({ length: 600 }, (_, i) => [`p${i}`, i] as [string, number])
  await engine.scan('allKinds', {}, { after: await buy(engine, orders) })
  const sql = openSql(data)
  const sizes = () => sql.prepare('SELECT count(*) AS n, max("tags") AS tags FROM all_kinds').get()!
  while (sizes()['n'] !== 600) await new Promise(setImmediate)
  await engine.close()
  const opening = opened(data, [fitting.replace('"b"', '"c"')])
  const seen = new Set<string>()
  do {
    const { n, tags } = sizes()
    assert.equal(n, 600)
    seen.add(`${tags}`)
    await new Promise(setImmediate)
  } while (!seen.has('["a","c"]'))
  assert.deepEqual([...seen], ['["a","b"]', '["a","c"]'])
  await (await opening).close()
  assert.equal(
    sql.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name LIKE '%t:allKinds'").get()!['n'],
    1,
  )
  sql.close()
  // A view that no module defines is no table either.
  await (await opened(data, [])).close()
  const left = openSql(data)
  assert.deepEqual(left.prepare('SELECT name FROM sqlite_schema').all(), [])
  left.close()
})

test('a damaged or removed file is derived again, with a report', async (t) => {
  const data = await directory(t)
  const path = join(data, 'state/views.sqlite')
  const engine = await opened(data, [fitting])
  const orders = Array.from({ length: 300 }, (_, i) => [`p${i}`, i] as [string, number])
  const token = await buy(engine, orders)
  for (const name of ['allKinds', 'list'] as const) await engine.scan(name, {}, { after: token })
  await engine.close()
  const rows = () => {
    const sql = openSql(data)
    const found = [sql.prepare('SELECT * FROM all_kinds').all(), sql.prepare('SELECT * FROM lists').all()]
    sql.close()
    return found
  }
  const before = rows()
  assert.equal(before[0]!.length, 300)
  for (const harm of [
    () => rm(path),
    async () => {
      const file = await open(path, 'r+')
      await file.write(Buffer.alloc(16, 7), 0, 16, 0)
      await file.close()
    },
    async () => {
      const file = await open(path, 'r+')
      for (let page = 3; page < 20; page++) await file.write(Buffer.alloc(200, 7), 0, 200, page * 4_096)
      await file.close()
    },
  ]) {
    await harm()
    const { findings } = await doctor({ data })
    assert.ok(
      findings.some(({ code, message }) => code === 'state-unreadable' && message.includes('allKinds')),
    )
    const reports: string[] = []
    const again = await opened(data, [fitting], (text) => reports.push(text))
    assert.match(reports.join('\n'), /state-unreadable .*derived again/)
    for (const name of ['allKinds', 'list'] as const) assert.equal((await again.scan(name)).length, 300)
    await again.close()
    assert.deepEqual(rows(), before)
  }
  assert.deepEqual(
    (await readdir(join(data, 'state'))).filter((name) => name.startsWith('view.')),
    [],
  )
})

test('hence sql prints a table or JSON, within bounds, beside a process that has the directory', async (t) => {
  const data = await directory(t)
  const engine = await opened(data, [fitting])
  await engine.scan(
    'list',
    {},
    {
      after: await buy(engine, [
        ['o1', 5],
        ['o2', 2_000],
      ]),
    },
  )
  const sql = openSql(data)
  while (sql.prepare('SELECT count(*) AS n FROM lists').get()!['n'] !== 2) await new Promise(setImmediate)
  sql.close()
  const ask = (statement: string, ...more: string[]) => hence(['sql', statement, '--data', data, ...more])
  const table = await ask('SELECT key, part1, note FROM all_kinds ORDER BY part1')
  assert.equal(table.stdout, 'key  part1  note\nmug  5\nmug  2000   big "one"\n', table.stderr)
  const json = await ask('SELECT key, value FROM lists', '--json', '--limit', '1')
  assert.equal(json.stdout, '{"key":"o1","value":"[\\"changed\\"]"}\n')
  assert.match(json.stderr, /more than 1 rows/)
  const wrong = await ask('SELECT * FROM none')
  assert.equal(wrong.code, 2)
  assert.match(wrong.stderr, /no such table: none/)
  assert.match((await ask('DROP VIEW lists')).stderr, /readonly/)
  const endless = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n'
  const stopped = await ask(endless, '--seconds', '1')
  assert.equal(stopped.code, 2)
  assert.match(stopped.stderr, /took more than 1 s/)
  await engine.close()
})
