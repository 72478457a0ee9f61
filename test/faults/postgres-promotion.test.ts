import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { postgresSink } from 'hence/postgres'
import { Client } from 'pg'
import { crashAt } from '../crash-points.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'
import { randomFrom } from '../random.ts'
import { openMarked } from './marked-engine.ts'

// Two generations are promoted in turn under load, and the process with the engine and the sink is killed at
// random moments. A reader of PostgreSQL never sees rows of two generations together, and in the end the rows
// there equal the engine's.

const kills = Number(process.env['HENCE_KILLS'] ?? 2)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const random = randomFrom(seed)

const name = crashAt(
  ['promotion', 'PostgreSQL transaction'],
  `${kills} kills, a reader of PostgreSQL sees rows of one generation (HENCE_SEED=${seed})`,
)
test(name, {
  timeout: 300_000,
}, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-promoted-postgres-'))
  const place = await mkdtemp(join(tmpdir(), 'hence-cluster-'))
  let cluster: Cluster
  try {
    cluster = await startCluster(place)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    return t.skip(error.message)
  }
  let child: ChildProcess | undefined
  const reader = new Client(cluster.connection)
  const open: { close(): Promise<void> }[] = []
  t.after(async () => {
    child?.kill('SIGKILL')
    // Stop everything that uses the database and the directory before they are removed.
    for (const each of open.reverse()) await each.close()
    await reader.end()
    await cluster.stop()
    for (const each of [home, place]) await rm(each, { recursive: true, force: true })
  })
  await reader.connect()
  const data = join(home, 'data')

  /** The marks of the mirrored rows. One statement sees one state. */
  const marksNow = async (): Promise<string[]> => {
    try {
      const { rows } = await reader.query(
        `SELECT coalesce(array_agg(DISTINCT value->>'mark'), '{}') AS marks
          FROM (SELECT value FROM mirror.boxes UNION ALL SELECT value FROM mirror.shelves) AS all_rows`,
      )
      return rows[0].marks
    } catch (error) {
      // The tables do not exist yet.
      if ((error as { code?: string }).code !== '42P01') throw error
      return []
    }
  }
  let promotions = 0
  const checks: Promise<void>[] = []
  const start = async () => {
    const args = [data, JSON.stringify(cluster.connection)]
    child = fork(fileURLToPath(import.meta.resolve('./marked-process.ts')), args, {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    await once(child, 'message')
    const promoting = child
    child.on('message', (name) => {
      promotions++
      // The sink has caught up, so the rows are of that generation, and stay so until the process may
      // continue.
      checks.push(
        marksNow().then((marks) => {
          assert.deepEqual([name, ...marks], [name, `${name}`.slice(-1)])
          if (promoting.connected) promoting.send('go on', () => {})
        }),
      )
    })
  }

  const seen = new Set<string>()
  let looks = 0
  let looking = true
  const looked = (async () => {
    while (looking) {
      const marks = await marksNow()
      assert.ok(marks.length <= 1, `rows of ${marks.join(' and ')} at once, seed ${seed}`)
      for (const mark of marks) seen.add(mark)
      looks++
      await pause(1)
    }
  })()
  looked.catch(() => {})

  await start()
  for (let life = 0; life < kills; life++) {
    const before = promotions
    while (promotions < before + 1 && child!.exitCode === null) await pause(5)
    await Promise.all(checks)
    await pause(random() * 300)
    assert.equal(child!.exitCode, null, 'the process exited by itself')
    const exited = once(child!, 'exit')
    child!.kill('SIGKILL')
    await exited
    await start()
  }
  const exited = once(child!, 'exit')
  child!.kill('SIGKILL')
  await exited

  const engine = await openMarked(data)
  open.push(engine)
  await engine.idle()
  const sink = postgresSink({
    engine,
    connection: cluster.connection,
    tables: ['boxes', 'shelves'] as never,
    schema: 'mirror',
    name: 'marked',
    report: () => {},
  })
  open.push(sink)
  await sink.caughtUp()
  looking = false
  await Promise.all([looked, ...checks])
  for (const table of ['boxes', 'shelves']) {
    const { rows } = await reader.query(`SELECT key, value FROM mirror.${table} ORDER BY key`)
    const own = await engine.scan(table as never)
    assert.deepEqual(
      rows.map(({ key, value }) => ({ key: [key], value })),
      own,
    )
    assert.ok(own.length > 0)
  }
  assert.deepEqual([...seen].sort(), ['a', 'b'])
  t.diagnostic(`${promotions} promotions, ${looks} looks`)
})
