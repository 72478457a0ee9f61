import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { type AppBundle, bundleApp, createEngine, type Engine, type Report, type WithViews } from 'hence'
import * as ways from 'hence/postgres'
import { memoryStorage } from 'hence/testing'
import { Client } from 'pg'
import type * as made from '../apps/boxes.ts'
import type * as passbook from '../apps/passbook.ts'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'
import { appsOf } from '../apps.ts'
import { HandClock, settle } from '../hand-clock.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/boxes.ts'))
const bank = await appsOf<typeof passbook>(import.meta.resolve('../apps/passbook.ts')).bank()
const store = await apps.store()
const thinner = await apps.thinner()

// Sink and outbox between an engine and a real PostgreSQL. The worst result would be a row there that differs
// from the engine's and stays so.

let directory: string
let cluster: Cluster | undefined
let why = ''
let client: Client

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'hence-sink-'))
  try {
    cluster = await startCluster(directory)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    why = error.message
    return
  }
  client = new Client(cluster.connection)
  await client.connect()
})

after(async () => {
  await client?.end()
  await cluster?.stop()
  await rm(directory, { recursive: true, force: true })
})

/** Everything that a failing test leaves open and that would keep this process alive. */
const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})
function closedAfter<T extends { close(): Promise<void> }>(each: T): T {
  open.push(each)
  return each
}
const postgresSink: typeof ways.postgresSink = (options) => closedAfter(ways.postgresSink(options))
const postgresOutbox: typeof ways.postgresOutbox = (options) => closedAfter(ways.postgresOutbox(options))

const quiet = { report: () => {} }

/** The rows of both sides, in the same order and form. */
async function sides(engine: Engine<typeof made.store>, schema: string) {
  const ours = {
    boxes: await engine.scan('boxes'),
    things: await engine.scan('boxThings'),
  }
  return { ours: JSON.parse(JSON.stringify(ours)), theirs: await mirrored(schema) }
}

async function mirrored(schema: string) {
  const rows = async (table: string, columns: string[]) =>
    (await client.query(`SELECT * FROM ${schema}.${table} ORDER BY ${columns}`)).rows.map((row) => ({
      key: columns.map((column) => row[column]),
      value: row.value,
    }))
  return {
    boxes: await rows('boxes', ['key']),
    things: await rows('box_things', ['key', 'part1', 'part2']),
  }
}

async function opened(data = memoryStorage({ partitions: 3 })) {
  return closedAfter(await createEngine({ app: store, data, ...quiet }))
}

test('a sink mirrors a view, and copies it again when other rows answer', async (t) => {
  if (!cluster) return t.skip(why)
  const module = await bundleApp(import.meta.resolve('../apps/sales-views.ts'))
  const data = memoryStorage({ partitions: 2 })
  const openWith = async (module: AppBundle) =>
    closedAfter(
      await createEngine<WithViews<typeof sales, typeof views>>({
        ...{ app: import.meta.resolve('../apps/sales.ts'), views: [module], data, ...quiet },
      }),
    )
  let engine = await openWith(module)
  const buy = async (order: string, cents: number) => {
    const input = { order, sku: 'mug', customer: 'ada', cents }
    const { token } = await engine.submit('buy', input, { requestId: order })
    return engine.scan('by-sku', {}, { after: token })
  }
  await buy('o1', 100)
  const { connection } = cluster
  const begin = () => postgresSink({ engine, connection, tables: ['by-sku'], schema: 'views', ...quiet })
  let sink = begin()
  await sink.caughtUp()
  const mirrored = async () => (await client.query('SELECT key, value FROM views.by_sku')).rows
  assert.deepEqual(await mirrored(), [{ key: 'mug', value: { orders: 1, cents: 100 } }])
  await buy('o2', 200)
  await sink.caughtUp()
  assert.deepEqual(await mirrored(), [{ key: 'mug', value: { orders: 2, cents: 300 } }])
  const code = module.code.replace('sign*row.cents', '2*sign*row.cents')
  assert.notEqual(code, module.code)
  const changed = { ...module, code, hash: createHash('sha256').update(code).digest('hex') }
  await engine.useViews([changed])
  while (sink.stats().snapshots < 2) await new Promise(setImmediate)
  await buy('o3', 300)
  await sink.caughtUp()
  assert.deepEqual(await mirrored(), [{ key: 'mug', value: { orders: 3, cents: 1_200 } }])
  // After a restart it goes on, also if later records changed no row of the view.
  await engine.submit('cancel', { order: 'none' }, { requestId: 'c1' })
  await sink.close()
  await engine.close()
  engine = await openWith(changed)
  sink = begin()
  await buy('o4', 400)
  await sink.caughtUp()
  assert.equal(sink.stats().snapshots, 0)
  assert.deepEqual(await mirrored(), [{ key: 'mug', value: { orders: 4, cents: 2_000 } }])
})

test('a sink copies all rows, follows changes, and continues after a restart of either side', async (t) => {
  if (!cluster) return t.skip(why)
  const data = memoryStorage({ partitions: 3 })
  let engine = await opened(data)
  let count = 0
  const send = (type: 'put' | 'clear' | 'idle', input: object) =>
    engine.submit(type, input as never, { requestId: `r${++count}` })
  for (let i = 0; i < 1_300; i++)
    await send('put', { box: `b${i % 700}`, n: i, note: i % 3 ? 'x' : 'ü\\u0000"\\' })
  const options = { connection: cluster.connection, tables: ['boxes', 'boxThings'] as const, schema: 'first' }
  let sink = postgresSink({ engine, ...options, ...quiet })
  await sink.caughtUp()
  let both = await sides(engine, 'first')
  assert.equal(both.theirs.boxes.length, 700)
  assert.deepEqual(both.theirs, both.ours)
  assert.equal(sink.stats().snapshots, 1)

  await send('put', { box: 'b1', n: 2.5 })
  await send('clear', { box: 'b2' })
  await send('clear', { box: 'b3' })
  await send('put', { box: 'b3', n: 1e21 })
  await send('idle', { box: 'b3' })
  await sink.caughtUp()
  both = await sides(engine, 'first')
  assert.equal(both.theirs.boxes.length, 699)
  assert.deepEqual(both.theirs, both.ours)

  // The engine restarts: the sink continues, and copies nothing again.
  await engine.close()
  await assert.rejects(sink.caughtUp(), { code: 'sink-closed' })
  engine = await opened(data)
  await send('put', { box: 'b9', n: 9 })
  sink = postgresSink({ engine, ...options, ...quiet })
  await sink.caughtUp()
  assert.equal(sink.stats().snapshots, 0)
  both = await sides(engine, 'first')
  assert.deepEqual(both.theirs, both.ours)

  // Its connections are cut.
  for (let i = 0; i < 5; i++) {
    await client.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%hence%'",
    )
    await send('put', { box: `cut${i}`, n: i })
  }
  await sink.caughtUp()
  both = await sides(engine, 'first')
  assert.deepEqual(both.theirs, both.ours)
  assert.equal(sink.stats().snapshots, 0)
})

test('rows and position change together: a refused change is retried, and none is left out', async (t) => {
  if (!cluster) return t.skip(why)
  const engine = await opened()
  const held = Promise.withResolvers<void>()
  const report = ({ message }: Report) => message.includes('not now') && held.resolve()
  const options = {
    engine,
    connection: cluster.connection,
    tables: ['boxes', 'boxThings'],
    schema: 'together',
  } as const
  const sink = postgresSink({ ...options, report })
  await engine.submit('put', { box: 'b0', n: 0 }, { requestId: 'r0' })
  await sink.caughtUp()
  await client.query(`CREATE FUNCTION together.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'not now'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON together.box_things FOR EACH STATEMENT EXECUTE FUNCTION together.refuse()`)
  const before = await client.query('SELECT position FROM together.hence_sinks')
  await engine.submit('put', { box: 'b1', n: 1 }, { requestId: 'r1' })
  await held.promise
  assert.deepEqual((await client.query('SELECT position FROM together.hence_sinks')).rows, before.rows)
  assert.equal((await client.query('SELECT FROM together.boxes')).rowCount, 1)
  await client.query('DROP TRIGGER refuse ON together.box_things')
  await sink.caughtUp()
  const { ours, theirs } = await sides(engine, 'together')
  assert.deepEqual(theirs, ours)
  assert.equal(theirs.boxes.length, 2)

  // Somebody else changes the position: the stored position counts.
  await client.query('UPDATE together.hence_sinks SET position = $1', [before.rows[0].position])
  await engine.submit('put', { box: 'b2', n: 2 }, { requestId: 'r2' })
  await sink.caughtUp()
  const after = await sides(engine, 'together')
  assert.deepEqual(after.theirs, after.ours)
})

test('a target of another log, of other tables, or ahead of the log is copied again', async (t) => {
  if (!cluster) return t.skip(why)
  const { connection } = cluster
  const engines = [await opened(), await opened()]
  for (const [i, engine] of engines.entries()) {
    for (let n = 0; n <= 10 + i; n++)
      await engine.submit('put', { box: `b${i}${n}`, n }, { requestId: `r${n}` })
    const sink = postgresSink({
      engine,
      connection,
      tables: ['boxes', 'boxThings'],
      schema: 'second',
      ...quiet,
    })
    await sink.caughtUp()
    assert.equal(sink.stats().snapshots, 1)
    const { ours, theirs } = await sides(engine, 'second')
    assert.deepEqual(theirs, ours)
    await sink.close()
  }
  const engine = engines[1]!
  const once = async (tables: Parameters<typeof postgresSink<typeof made.store>>[0]['tables']) => {
    const sink = postgresSink({ engine, connection, tables, schema: 'second', ...quiet })
    await sink.caughtUp()
    await sink.close()
    return sink.stats().snapshots
  }
  assert.equal(await once(['boxes', 'boxThings']), 0)
  await client.query("UPDATE second.hence_sinks SET position = '9999.9999.9999'")
  assert.equal(await once(['boxes', 'boxThings']), 1)
  assert.equal(await once({ boxes: 'chests' }), 1)
  const { rows } = await client.query('SELECT count(*) FROM second.chests')
  assert.equal(Number(rows[0].count), 12)
  assert.throws(() => postgresSink({ engine, connection, tables: { boxes: '' } }), { code: 'option-invalid' })
})

test('a target older than the kept changes is copied again', async (t) => {
  if (!cluster) return t.skip(why)
  const clock = new HandClock()
  const data = memoryStorage({ clock, partitions: 3 })
  const engine = await createEngine({
    app: store,
    data,
    clock,
    windowMs: 60_000,
    checkpointRows: 20,
    ...quiet,
  })
  const options = {
    engine,
    connection: cluster.connection,
    tables: ['boxes', 'boxThings'],
    schema: 'old',
  } as const
  let sink = postgresSink({ ...options, ...quiet })
  let count = 0
  const put = (box: string) => engine.submit('put', { box, n: 1 }, { requestId: `r${++count}` })
  await put('first')
  await sink.caughtUp()
  await sink.close()
  for (let i = 0; i < 50; i++) await put(`missed ${i}`)
  await engine.submit('clear', { box: 'first' }, { requestId: 'clear' })
  clock.pass(86_400_000)
  for (let i = 0; i < 200; i++) {
    await put(`later ${i}`)
    await settle()
  }
  sink = postgresSink({ ...options, ...quiet })
  await sink.caughtUp()
  assert.equal(sink.stats().snapshots, 1)
  const { ours, theirs } = await sides(engine, 'old')
  assert.deepEqual(theirs, ours)
})

test('a promoted app whose table has other keys, or is missing: the target has rows of one generation', async (t) => {
  if (!cluster) return t.skip(why)
  const { connection } = cluster
  const engine = closedAfter(
    await createEngine({
      app: store,
      data: memoryStorage({ partitions: 3 }),
      ...quiet,
    }),
  )
  const held = Promise.withResolvers<void>()
  const report = ({ code, message }: Report) => {
    if (code === 'postgres-held-up' && message.includes('"boxes" cannot be mirrored')) held.resolve()
  }
  const all = postgresSink({
    engine,
    connection,
    tables: ['boxes', 'boxThings'],
    schema: 'promoted',
    name: 'all',
    report,
  })
  const some = postgresSink({
    engine,
    connection,
    tables: { boxThings: 'numbered' },
    schema: 'promoted',
    name: 'some',
    ...quiet,
  })
  const send = (n: number) => engine.submit('put', { box: `b${n % 5}`, n }, { requestId: `r${n}` })
  const promote = async (requestId: string) => {
    const { sha256: diff } = await engine.reprocessing.diff()
    await engine.reprocessing.promote({ diff }, { requestId })
  }
  for (let n = 0; n < 40; n++) await send(n)
  await all.caughtUp()
  const before = await sides(engine, 'promoted')
  assert.deepEqual(before.theirs, before.ours)
  await engine.reprocessing.start({ app: thinner })
  await promote('p1')
  await send(40)
  await some.caughtUp()
  const { rows, fields } = await client.query('SELECT * FROM promoted.numbered ORDER BY key, part1')
  assert.deepEqual(
    fields.map(({ name }) => name),
    ['key', 'part1', 'value'],
  )
  assert.deepEqual(
    rows.map(({ key, part1, value }) => ({ key: [key, part1], value })),
    await engine.scan('boxThings'),
  )
  // The promoted app has no such table: readers still see all the rows of before.
  await held.promise
  assert.deepEqual(await mirrored('promoted'), before.theirs)
  const late = { engine, connection, tables: ['boxes'], schema: 'promoted' } as const
  assert.throws(() => postgresSink({ ...late, ...quiet }), { code: 'option-invalid' })

  // A rollback restores the target.
  await promote('p2')
  await send(41)
  await all.caughtUp()
  await some.caughtUp()
  const after = await sides(engine, 'promoted')
  assert.deepEqual(after.theirs, after.ours)
  assert.equal(after.theirs.things.length, 42)
  const back = await client.query('SELECT FROM promoted.numbered')
  assert.equal(back.rowCount, 42)
})

test('text that PostgreSQL cannot store becomes U+FFFD, and blocks nothing', async (t) => {
  if (!cluster) return t.skip(why)
  const engine = await opened()
  const notes = ['a\0b', '\\u0000', '\\\0', '\\\\\0\0', '\\\\u0000 \ud83d\ude00', 'plain']
  for (const [i, note] of notes.entries())
    await engine.submit('put', { box: `b${i}`, n: 1, note }, { requestId: `r${i}` })
  await engine.submit('put', { box: 'nul \0', n: 1 }, { requestId: 'key' })
  const { connection } = cluster
  const sink = postgresSink({ engine, connection, tables: ['boxes'], schema: 'third', ...quiet })
  await sink.caughtUp()
  const { rows } = await client.query('SELECT key, value FROM third.boxes ORDER BY key')
  const shown = (text: string) => text.replaceAll('\0', '\ufffd')
  assert.deepEqual(
    rows.map(({ key, value }) => [key, value.note]),
    [...notes.map((note, i) => [`b${i}`, shown(note)]), ['nul \ufffd', undefined]],
  )
})

test('one sink at a time works on a target; a second one takes over', async (t) => {
  if (!cluster) return t.skip(why)
  const engine = await opened()
  await engine.submit('put', { box: 'b', n: 1 }, { requestId: 'r1' })
  const options = { engine, connection: cluster.connection, tables: ['boxes'], schema: 'fourth' } as const
  const one = postgresSink({ ...options, ...quiet })
  await one.caughtUp()
  const waiting = Promise.withResolvers<void>()
  const report = ({ code }: Report) => code === 'postgres-standby' && waiting.resolve()
  const two = postgresSink({ ...options, report })
  await waiting.promise
  assert.equal(two.stats().position, undefined)
  await one.close()
  await engine.submit('put', { box: 'b', n: 2 }, { requestId: 'r2' })
  await two.caughtUp()
  const { rows } = await client.query('SELECT value FROM fourth.boxes')
  assert.deepEqual(rows, [{ value: { sum: 3 } }])
  assert.equal(two.stats().snapshots, 0)
})

/** Resolves when all rows of an outbox are decided. */
async function decided(table: string) {
  for (;;) {
    const { rows } = await client.query(`SELECT * FROM ${table} ORDER BY number`)
    if (rows.every((row) => row.decided_at !== null)) return rows
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

test('requests that a service inserts take effect once, and get their outcome or their error', async (t) => {
  if (!cluster) return t.skip(why)
  const engine = await opened()
  const { connection } = cluster
  const reports: Report[] = []
  const report = (each: Report) => reports.push(each)
  let relay = postgresOutbox({ engine, connection, schema: 'way_in', report })
  while ((await client.query("SELECT to_regclass('way_in.hence_requests') AS made")).rows[0].made === null);
  const insert = (id: string, type: string, input: string, principal = '') =>
    client.query('INSERT INTO way_in.hence_requests (id, type, input, principal) VALUES ($1, $2, $3, $4)', [
      id,
      type,
      input,
      principal,
    ])
  await client.query('BEGIN')
  await insert('undone', 'put', '{"box":"b","n":100}')
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await insert('a', 'put', '{"box":"b","n":1}', 'ann')
  await insert('b', 'put', '{"box":"b","n":-1}')
  await insert('c', 'put', '{"box":"b","n":"many"}')
  await insert('d', 'nonsense', '{}')
  await insert('e', 'put', '{"box":"b","n":9007199254740993}')
  await insert('f', 'hence:redrive', '{"effect":"x","key":"","reason":"x"}')
  await insert('a', 'put', '{"box":"b","n":2}', 'bob')
  await client.query('COMMIT')
  const rows = await decided('way_in.hence_requests')
  assert.deepEqual(
    rows.map(({ id, outcome, error }) => [id, outcome ?? error.code]),
    [
      ['a', { status: 'accepted', value: { sum: 1 } }],
      ['b', { status: 'rejected', reason: 'too-few', details: { n: -1 } }],
      ['c', 'input-invalid'],
      ['d', 'unknown-request'],
      ['e', 'json-invalid'],
      ['f', 'unknown-request'],
      ['a', { status: 'accepted', value: { sum: 3 } }],
    ],
  )
  assert.match(rows[0].token, /^\d+:\d+$/)
  assert.equal(reports.filter(({ code }) => code === 'postgres-outbox-refused').length, 4)
  await assert.rejects(insert('a', 'put', '{"box":"b","n":1}', 'ann'), { code: '23505' })

  // As after a crash between the request and the update with its outcome.
  await relay.close()
  await client.query("UPDATE way_in.hence_requests SET decided_at = NULL, outcome = NULL WHERE id = 'a'")
  await insert('g', 'put', '{"box":"b","n":4}')
  relay = postgresOutbox({ engine, connection, schema: 'way_in', keepMs: 0, ...quiet })
  for (;;) {
    const { rows } = await client.query('SELECT id FROM way_in.hence_requests ORDER BY number')
    if (rows.length === 4) break
  }
  assert.deepEqual(await engine.get('boxes', ['b']), { sum: 7 })
})

test('a source makes a request of each row once, and of none before one that is still to come', async (t) => {
  if (!cluster) return t.skip(why)
  const data = memoryStorage({ partitions: 2 })
  const engine = closedAfter(await createEngine({ app: bank, data, ...quiet }))
  await client.query(`CREATE SCHEMA till; CREATE TABLE till."Out box" (
    n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL, cents int NOT NULL)`)
  const slow = new Client(cluster.connection)
  await slow.connect()
  closedAfter({ close: () => slow.end() })
  const insert = (by: Client, cents: number) =>
    by.query(`INSERT INTO till."Out box" (account, cents) VALUES ('a', $1)`, [cents])
  const { connection } = cluster
  const begin = (of: typeof engine) =>
    closedAfter(
      ways.postgresSource({
        ...{ engine: of, connection, schema: 'till', table: 'Out box', sequence: 'n', name: 'till' },
        ...{ pollMs: 1, ...quiet },
        request: ({ account, cents }) => ({ type: 'deposit', input: { account, cents } }),
      }),
    )
  const entries = async (of: typeof engine) =>
    (await of.scan('entries', { prefix: ['a'] })).map(({ value }) => value.cents)
  const reached = async (from: ReturnType<typeof begin>, position: string) => {
    while (from.stats().position !== position) await new Promise((resolve) => setTimeout(resolve, 1))
  }
  let source = begin(engine)
  await insert(client, 1)
  await reached(source, '1')
  // The second row is inserted before the third, and committed after it; the fourth never comes.
  await slow.query('BEGIN')
  await insert(slow, 2)
  await insert(client, 3)
  await client.query('BEGIN')
  await insert(client, 4)
  await client.query('ROLLBACK')
  await insert(client, 5)
  await source.close()
  source = begin(engine)
  await reached(source, '1')
  assert.deepEqual(await entries(engine), [1])
  await slow.query('COMMIT')
  await reached(source, '5')
  assert.deepEqual(await entries(engine), [1, 2, 3, 5])
  await source.close()
  // From the beginning again, since the position is lost.
  const digest = await engine.digest()
  await client.query('DELETE FROM till.hence_sources')
  source = begin(engine)
  await reached(source, '5')
  assert.equal(source.stats().decided, 4)
  assert.equal(await engine.digest(), digest)
  await source.close()
  // Another log has none of it.
  const fresh = closedAfter(await createEngine({ app: bank, data: memoryStorage(), ...quiet }))
  await reached(begin(fresh), '5')
  assert.deepEqual(await entries(fresh), [1, 2, 3, 5])
})
