import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import { postgresSource } from 'hence/postgres'
import { Client } from 'pg'
import { crashAt } from '../crash-points.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'
import { randomFrom } from '../random.ts'
import { sourceOptions } from './source-options.ts'

// Services insert rows into an outbox, in transactions that overlap and are sometimes rolled back. An engine
// that makes requests of them is killed again and again, and every other time the position is lost too. In
// the end every committed row was applied once, and those of each account in their order.

const kills = Number(process.env['HENCE_KILLS'] ?? 3)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const random = randomFrom(seed)

const name = crashAt(
  'PostgreSQL transaction',
  `${kills} kills of an engine, each row of an outbox is applied once, in order (HENCE_SEED=${seed})`,
)
test(name, { timeout: 300_000 }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-source-'))
  const [data, files] = [join(home, 'data'), await mkdtemp(join(tmpdir(), 'hence-cluster-'))]
  let cluster: Cluster
  try {
    cluster = await startCluster(files)
  } catch (error) {
    for (const each of [home, files]) await rm(each, { recursive: true, force: true })
    if (!(error instanceof NoPostgres)) throw error
    return t.skip(error.message)
  }
  const open: { close(): Promise<void> }[] = []
  t.after(async () => {
    for (const each of open.reverse()) await each.close()
    await cluster.stop()
    for (const each of [home, files]) await rm(each, { recursive: true, force: true })
  })
  const connect = async () => {
    const client = new Client(cluster.connection)
    await client.connect()
    open.push({ close: () => client.end() })
    return client
  }
  const client = await connect()
  await client.query(
    'CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text, cents int)',
  )

  let cents = 100
  /** Each service has an account of its own, and inserts one row after another. */
  const services = await Promise.all(Array.from({ length: 6 }, connect))
  const serve = async (service: Client, n: number) => {
    for (let rows = 0; rows < 15; rows++) {
      await service.query('BEGIN')
      await service.query('INSERT INTO outbox (account, cents) VALUES ($1, $2)', [`account ${n}`, cents++])
      await pause(random() < 0.3 ? random() * 30 : 0)
      await service.query(random() < 0.2 ? 'ROLLBACK' : 'COMMIT')
      await pause(random() * 10)
    }
  }
  for (let life = 0; life < kills; life++) {
    const path = fileURLToPath(import.meta.resolve('./source-process.ts'))
    const child = fork(path, [data, JSON.stringify(cluster.connection)], {
      ...{ execArgv: ['-C', 'hence-source'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
    })
    const exited = once(child, 'exit')
    await once(child, 'message')
    const serving = Promise.all(services.map(serve))
    await pause(random() * 300)
    child.kill('SIGKILL')
    assert.equal((await exited)[1], 'SIGKILL')
    await serving
    const { rows } = await client.query("SELECT to_regclass('hence_sources') AS made")
    if (life % 2 === 1 && rows[0].made !== null) await client.query('DELETE FROM hence_sources')
  }

  const engine = await createEngine({ app: await sourceOptions.app(), data, report: () => {} })
  const { connection } = cluster
  const source = postgresSource({ engine, connection, ...sourceOptions.source, report: () => {} })
  // The source closes first.
  open.push(engine, source)
  const { rows } = await client.query('SELECT * FROM outbox ORDER BY id')
  while (source.stats().position !== rows.at(-1).id) await pause(5)
  assert.equal(source.stats().refused, 0)
  const inserted = Map.groupBy(rows, ({ account }) => account)
  assert.equal(inserted.size, 6)
  for (const [account, own] of inserted) {
    const entries = await engine.scan('entries', { prefix: [account] })
    assert.deepEqual(
      entries.map(({ value }) => value.cents),
      own.map(({ cents }) => cents),
    )
  }
})
