import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { bundleApp, createEngine, type Engine, type HenceError, type WithViews } from 'hence'
import { doctor, openSql, verify } from 'hence/offline'
import { rehearse } from '../../src/engine/rehearsal.ts'
import { encodeKey } from '../../src/state/keys.ts'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import { type StateName, stateFolder } from '../../src/storage/states.ts'
import { storeOf } from '../../src/view/fold.ts'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'

// A rehearsal, and `verify`, fold the views a second time and compare every row.

type Sales = WithViews<typeof sales, typeof views>

const app = await bundleApp<never>(import.meta.resolve('../apps/sales.ts'))
const inSql = await bundleApp(import.meta.resolve('../apps/sales-views.ts'))
const lmdbCode = inSql.code.replaceAll(/,sql:(true|"lines")/g, '')
assert.equal(lmdbCode.length, inSql.code.length - 21)
const inLmdb = { ...inSql, code: lmdbCode, hash: createHash('sha256').update(lmdbCode).digest('hex') }

async function house(t: TestContext, module: typeof inSql) {
  const data = await mkdtemp(join(tmpdir(), 'hence-rehearsal-'))
  const engines: Engine<Sales>[] = []
  t.after(async () => {
    for (const engine of engines) await engine.close()
    await rm(data, { recursive: true })
  })
  const open = async () => {
    const engine = await createEngine<Sales>({
      ...{ app, data, partitions: 3, views: [module], checkpointRows: 60 },
      report: ({ message }) => assert.fail(message),
    })
    engines.push(engine)
    return engine
  }
  let sent = 0
  /** Sends so many requests, and returns their tokens. */
  const work = async (engine: Engine<Sales>, requests: number) => {
    const tokens: string[] = []
    for (const end = sent + requests; sent < end; sent += 10) {
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, (_, n) => {
          const order = `o${sent + n}`
          if (n === 9) return engine.submit('cancel', { order: `o${sent + 3}` }, { requestId: `c${order}` })
          const input = { order, sku: `s${n % 4}`, customer: `c${n % 3}`, cents: sent + n }
          return engine.submit('buy', input, { requestId: order })
        }),
      )
      tokens.push(...outcomes.map(({ token }) => token))
    }
    return tokens
  }
  const rehearsed = (generation = 0) =>
    rehearse({ directory: data, generation, derivationMs: 5_000, positions: [0, 0, 0], share: 1 }, t.signal)
  const store = (name: string): StateName => storeOf({ name, version: module.hash, generation: 0 })
  return { data, open, work, rehearsed, store }
}

/** Returns when the views have followed up to these requests. */
async function seen(engine: Engine<Sales>, tokens: readonly string[]): Promise<void> {
  for (const after of tokens)
    for (const view of ['by-sku', 'journal'] as const) await engine.scan(view, { limit: 1 }, { after })
}

/** The first difference that a rehearsal names. */
async function named(rehearsed: () => Promise<unknown>): Promise<string> {
  const error = await rehearsed().then(
    () => assert.fail('no difference was found'),
    (error: HenceError) => error,
  )
  assert.equal(error.code, 'rehearsal-differs', error.message)
  return error.message
}

for (const [where, module] of [
  ['LMDB', inLmdb],
  ['SQLite', inSql],
] as const)
  test(`views in ${where} are folded again under load, at rest, and by verify`, async (t) => {
    const { data, open, work, rehearsed } = await house(t, module)
    const engine = await open()
    await work(engine, 60)
    let isOver = false
    const load = (async () => {
      for (; !isOver; await pause(50)) await work(engine, 10)
    })()
    const { views: early } = (await rehearsed())!
    assert.deepEqual(early.map(({ name }) => name).sort(), ['by-sku', 'journal'])
    for (const { positions } of early) assert.ok(positions.every((position) => position > 0))
    isOver = true
    await load
    const at = (
      await engine.submit('buy', { order: 'x', sku: 's1', customer: 'c', cents: 1 }, { requestId: 'x' })
    ).token
    await engine.scan('journal', {}, { after: at })
    await engine.close()
    const { views } = (await rehearsed())!
    assert.ok(views.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256)))
    const { ok, flaws, history } = await verify({ data })
    assert.deepEqual([ok, flaws], [true, []])
    assert.deepEqual(history.checked && history.views?.map(({ name }) => name).sort(), ['by-sku', 'journal'])
  })

test('views of a generation that was promoted are folded again', async (t) => {
  const { data, open, work, rehearsed } = await house(t, inSql)
  const engine = await open()
  await work(engine, 60)
  const code = app.code.replace('order-exists', 'order-known')
  assert.notEqual(code.length, app.code.length)
  const hash = createHash('sha256').update(code).digest('hex')
  await engine.reprocessing.start({ app: { ...app, code, hash } })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  await work(engine, 60)
  const at = (await engine.submit('cancel', { order: 'x' }, { requestId: 'x' })).token
  while (engine.stats().views.some(({ state }) => state !== 'following')) await pause(20)
  await engine.scan('journal', {}, { after: at })
  await engine.close()
  const { views } = (await rehearsed(1))!
  assert.deepEqual(views.map(({ name }) => name).sort(), ['by-sku', 'journal'])
  assert.deepEqual((await verify({ data })).flaws, [])
})

test('a row of a view in LMDB that somebody has changed, added or removed is named', async (t) => {
  const { data, open, work, rehearsed, store: storeName } = await house(t, inLmdb)
  const engine = await open()
  await seen(engine, await work(engine, 60))
  const value = (await engine.get('by-sku', ['s1']))!
  await engine.close()
  const key = encodeKey(['s1'])
  const rows = 't:by-sku'
  const collections = [rows, 'i:by-sku:byCents']
  const store = await openLmdbStore({ directory: stateFolder(data, storeName('by-sku')), collections })
  t.after(() => store.close())
  const text = store.get(rows, key)!
  const [[entry]] = [...store.range('i:by-sku:byCents')] as [[string, string]]
  for (const [collection, at, changed, pattern] of [
    [
      rows,
      key,
      JSON.stringify({ ...value, cents: 7 }),
      /\{"view":"by-sku","key":\["s1"\]\}, which record \d:\d+ changed last, is .*"cents":7.* and should be /,
    ],
    [rows, key, undefined, /"key":\["s1"\]\}, which record \d:\d+ changed last, is absent/],
    [rows, encodeKey(['s9']), text, /"key":\["s9"\]\} is .* should be absent/],
    ['i:by-sku:byCents', entry, undefined, /\{"view":"by-sku","index":"i:by-sku:byCents"\}/],
  ] as const) {
    const before = store.get(collection, at)
    await store.write([[collection, [[at, changed]]]])
    if (changed !== undefined) {
      const { flaws } = await verify({ data })
      assert.deepEqual(
        flaws.map(({ code }) => code),
        ['table-differs'],
      )
      assert.match(flaws[0]!.message, pattern)
    }
    assert.match(await named(rehearsed), pattern)
    await store.write([[collection, [[at, before]]]])
  }
  assert.ok(await rehearsed())
})

test('a row of a view in SQLite, or a column of it, that differs is named', async (t) => {
  const { data, open, work, rehearsed, store } = await house(t, inSql)
  const engine = await open()
  await seen(engine, await work(engine, 60))
  await engine.close()
  const path = join(data, 'state/views.sqlite')
  const before = await readFile(path)
  const db = new DatabaseSync(path)
  db.prepare(`UPDATE "${store('by-sku')} t:by-sku" SET hence_row = ? WHERE key = 's2'`).run(
    '{"orders":1,"cents":2}',
  )
  db.close()
  assert.match(
    await named(rehearsed),
    /\{"view":"by-sku","key":\["s2"\]\}, which record \d:\d+ changed last, is .*"orders":1/,
  )
  assert.deepEqual(
    (await verify({ data })).flaws.map(({ code }) => code),
    ['table-differs'],
  )

  // A bit of the copy of the text that SQL reads, and not of the row.
  // Bytes of rows that were elsewhere before may be left in the file.
  const isRead = () => {
    const sql = openSql(data)
    const [found] = sql.prepare("SELECT count(*) AS n FROM lines WHERE text GLOB '`*'").all()
    sql.close()
    return found!['n'] === 1
  }
  const bought = Buffer.from('bought {"key":')
  for (let at = before.indexOf(bought); at >= 0; at = before.indexOf(bought, at + 1)) {
    const flipped = Buffer.from(before)
    flipped[at]! ^= 2
    await writeFile(path, flipped)
    if (isRead()) break
  }
  assert.ok(isRead())
  const columns =
    /\{"view":"journal","key":\["line",\d+\]\}, which record \d:\d+ changed last, has other values in its columns/
  assert.match(await named(rehearsed), columns)
  assert.match((await verify({ data })).flaws.map(({ message }) => message).join(), columns)
  const { findings } = await doctor({ data })
  assert.match(
    findings
      .filter(({ level }) => level === 'warning')
      .map(({ message }) => message)
      .join(),
    /journal/,
  )
})
