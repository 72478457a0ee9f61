import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmod, chown, cp, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createEngine, type Reply } from 'hence'
import { postgresOutboxSql, postgresSink } from 'hence/postgres'
import { Client } from 'pg'
import { crashAt } from '../crash-points.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'
import { randomFrom } from '../random.ts'
import { expected, type Wish } from './ledger.ts'
import type till from './till.ts'

// A service inserts requests into its PostgreSQL database; the engine takes them from there and mirrors its
// tables into the same database. Engine and database are killed at random moments, independently. In the end
// every committed request was decided once, no rolled-back one was, and the mirrored rows equal the engine's.

const kills = Number(process.env['HENCE_KILLS'] ?? 5)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const random = randomFrom(seed)
const below = (limit: number) => Math.floor(random() * limit)

const name = crashAt(
  'PostgreSQL transaction',
  `${kills} kills of each side, each committed request is decided once and mirrored (HENCE_SEED=${seed})`,
)
test(name, { timeout: 300_000 }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-killed-postgres-'))
  const parts = { cluster: await mkdtemp(join(tmpdir(), 'hence-cluster-')), engine: join(home, 'data') }
  let cluster: Cluster
  try {
    cluster = await startCluster(parts.cluster)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    return t.skip(error.message)
  }
  let child: ChildProcess | undefined
  const open: { close(): Promise<void> }[] = []
  t.after(async () => {
    child?.kill('SIGKILL')
    for (const each of open.reverse()) await each.close()
    await cluster.stop()
    for (const each of [home, parts.cluster]) await rm(each, { recursive: true, force: true })
  })

  const start = async () => {
    const path = fileURLToPath(import.meta.resolve('./postgres-process.ts'))
    const args = [parts.engine, JSON.stringify(cluster.connection)]
    child = fork(path, args, {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    await once(child, 'message')
  }
  const killEngine = async () => {
    const exited = once(child!, 'exit')
    child!.kill('SIGKILL')
    await exited
  }
  /** Queries the database until it answers. */
  const ask = async (act: (client: Client) => Promise<unknown>) => {
    for (;;) {
      const client = new Client(cluster.connection)
      client.on('error', () => {})
      try {
        await client.connect()
        return await act(client)
      } catch (error) {
        // An error in the SQL does not go away by retrying.
        if (/^(42|22|23)/.test((error as { code?: string }).code ?? '')) throw error
        await pause(20)
      } finally {
        await client.end().catch(() => {})
      }
    }
  }

  await ask((client) => client.query(`${postgresOutboxSql()} CREATE TABLE bookings (id text PRIMARY KEY)`))
  const wishes = new Map<string, Wish>()
  let undone = 0
  /**
   * A transaction of the service: its own row and the request, both or none; retried until it is known to be
   * committed.
   */
  const book = async () => {
    const id = `wish-${wishes.size}`
    // Some rows are written only once, so that no later change hides one that was missed.
    const own = random() < 0.5 ? `till ${below(12)}` : `till of ${id}`
    const input = { till: own, town: `town ${below(7)}`, cents: 1 + below(200) }
    const wish: Wish =
      random() < 0.05 ? { id, type: 'empty', input: { till: input.till } } : { id, type: 'pay', input }
    wishes.set(id, wish)
    await ask(async (client) => {
      const insert = async (id: string) => {
        await client.query('BEGIN')
        await client.query('INSERT INTO bookings VALUES ($1) ON CONFLICT DO NOTHING', [id])
        await client.query(
          'INSERT INTO hence_requests (id, type, input) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
          [id, wish.type, JSON.stringify(wish.input)],
        )
      }
      if (random() < 0.1) {
        undone++
        await insert(`undone-${undone}`)
        await client.query('ROLLBACK')
      }
      await insert(id)
      await client.query('COMMIT')
    })
  }

  await start()
  for (let life = 0; life < kills; life++) {
    const booking = Promise.all(Array.from({ length: 20 + below(60) }, book))
    await pause(below(200))
    if (random() < 0.5) {
      await killEngine()
      await cluster.halt('killed')
      await Promise.all([start(), cluster.resume()])
    } else {
      await cluster.halt('killed')
      await pause(below(50))
      await cluster.resume()
      await pause(below(100))
      await killEngine()
      await start()
    }
    await booking
  }

  // Every committed request is decided.
  let rows: { id: string; outcome: object | null; error: object | null }[]
  do {
    await pause(20)
    rows = (await ask(async (client) => {
      const found = await client.query(
        'SELECT id, outcome, error, decided_at FROM hence_requests ORDER BY number',
      )
      return found.rows.some(({ decided_at }) => decided_at === null) ? [] : found.rows
    })) as typeof rows
  } while (rows.length === 0)
  assert.deepEqual(rows.map(({ id }) => id).sort(), [...wishes.keys()].sort())
  const told = new Map<string, Reply>()
  for (const { id, outcome, error } of rows) {
    assert.equal(error, null)
    told.set(id, { ...outcome, requestId: id } as Reply)
  }

  // And only once: the replies add up to the engine's rows, which equal PostgreSQL's. On a slow machine the
  // mirror may be copied for the first time only now.
  while (!(await ask(isMirrored))) await pause(20)
  await killEngine()
  const engine = await createEngine<typeof till>({
    app: import.meta.resolve('./till.ts'),
    data: parts.engine,
    report: () => {},
  })
  open.push(engine)
  const tables = async () => ({ tills: await engine.scan('tills'), towns: await engine.scan('towns') })
  assert.deepEqual(await tables(), expected({ wishes, told }))
  const mirrored = async () => {
    const rowsOf = async (table: string) =>
      (await ask((client) => client.query(`SELECT * FROM mirror.${table} ORDER BY key`))) as {
        rows: { key: string; value: unknown }[]
      }
    const shaped = async (table: string) =>
      (await rowsOf(table)).rows.map(({ key, value }) => ({ key: [key], value }))
    return { tills: await shaped('tills'), towns: await shaped('towns') }
  }
  const { connection } = cluster
  const options = {
    engine,
    connection,
    tables: ['tills', 'towns'],
    schema: 'mirror',
    report: () => {},
  } as const
  let sink = postgresSink(options)
  await sink.caughtUp()
  assert.equal(sink.stats().snapshots, 0, 'the sink copied everything again')
  assert.deepEqual(await mirrored(), await tables())

  // After a restore from an older backup it continues from there; without a position in the backup it copies
  // everything.
  await sink.close()
  await cluster.halt('orderly')
  const copy = join(parts.cluster, 'copy')
  await cp(cluster.data, copy, { recursive: true, preserveTimestamps: true })
  await cluster.resume()
  sink = postgresSink(options)
  for (let i = 0; i < 300; i++) {
    const input = { till: `late ${below(20)}`, town: 'town', cents: 1 }
    await engine.submit('pay', input, { requestId: `late-${i}` })
  }
  await sink.caughtUp()
  assert.deepEqual(await mirrored(), await tables())
  await cluster.halt('killed')
  await rm(cluster.data, { recursive: true })
  await cp(copy, cluster.data, { recursive: true, preserveTimestamps: true })
  await giveTo(parts.cluster, cluster.data)
  await cluster.resume()
  await engine.submit('pay', { till: 'last', town: 'town', cents: 1 }, { requestId: 'last' })
  await sink.caughtUp()
  assert.deepEqual(await mirrored(), await tables())
  assert.equal(sink.stats().snapshots, 0, 'the sink copied everything again')
  const { commits } = sink.stats()
  await sink.close()
  await engine.close()
  t.diagnostic(`${wishes.size} requests, ${undone} undone, ${commits} commits of the last sink`)
})

/** Whether the database holds the mirror's position. */
async function isMirrored(client: Client): Promise<boolean> {
  const made = await client.query(`SELECT to_regclass('mirror.hence_sinks') AS positions`)
  if (made.rows[0].positions === null) return false
  return (await client.query('SELECT FROM mirror.hence_sinks')).rowCount === 1
}

/** Gives a directory to the owner of another one, and closes it to others, as PostgreSQL requires. */
async function giveTo(owned: string, directory: string): Promise<void> {
  const { uid, gid } = await stat(owned)
  await chmod(directory, 0o700)
  for (const name of ['', ...(await readdir(directory, { recursive: true }))])
    await chown(join(directory, name), uid, gid)
}
