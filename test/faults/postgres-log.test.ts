import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { migratePostgresLog, postgresLog } from 'hence/postgres'
import type { ClientConfig } from 'pg'
import { crashAt } from '../crash-points.ts'
import { type Cluster, NoPostgres, startCluster } from '../postgres-cluster.ts'
import { randomFrom } from '../random.ts'
import { TcpProxy } from '../tcp-proxy.ts'
import { ManyClients } from './many-clients.ts'
import { openTill } from './till-engine.ts'

// The log is in PostgreSQL, behind a line that is cut and held. The server is killed, and another one goes on
// on another machine; the database is killed. Under all of it many clients send and retry, and in the end
// their replies must agree with the tables, which every machine derives alike.

const faults = Number(process.env['HENCE_KILLS'] ?? 8)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))

const name = crashAt(
  ['requests in flight', 'PostgreSQL transaction'],
  `with the log in PostgreSQL, replies agree with the tables after ${faults} faults (HENCE_SEED=${seed})`,
)
test(name, { timeout: 300_000 }, async (t) => {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const home = await mkdtemp(join(tmpdir(), 'hence-postgres-log-'))
  const clusterHome = await mkdtemp(join(tmpdir(), 'hence-cluster-'))
  let cluster: Cluster
  try {
    cluster = await startCluster(clusterHome)
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    return t.skip(error.message)
  }
  const { host, user, database } = cluster.connection
  const line = await TcpProxy.listen(() => join(host!, '.s.PGSQL.5432'))
  const connection: ClientConfig = { host: '127.0.0.1', port: line.port, user: user!, database: database! }
  let child: ChildProcess | undefined
  let load: ManyClients | undefined
  t.after(async () => {
    child?.kill('SIGKILL')
    await load?.close()
    await line.close()
    await cluster.stop()
    for (const each of [home, clusterHome]) await rm(each, { recursive: true, force: true })
  })
  await migratePostgresLog({ connection })

  let ended: Promise<never> | undefined
  let port = 0
  let machine = 0
  /** Starts a server on the next of three machines, on the port of the one before. */
  const start = async (): Promise<ChildProcess> => {
    const path = fileURLToPath(import.meta.resolve('./server-process.ts'))
    const data = join(home, String(machine++ % 3))
    const started = fork(path, [data, String(port), JSON.stringify({ connection, answerMs: 1_000 })], {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    child = started
    ended = once(started, 'exit').then(([code]) => assert.fail(`the server ended with ${code}`))
    ended.catch(() => {})
    const [ready] = await Promise.race([once(started, 'message'), ended])
    port = (ready as { port: number }).port
    return started
  }
  let server = await start()
  const many = new ManyClients(32, `http://127.0.0.1:${port}`, random)
  load = many

  const replies = (count: number) => Promise.race([many.replies(count), ended])
  const struck: string[] = []
  const kinds = {
    async 'another machine'() {
      const exit = once(server, 'exit')
      server.kill('SIGKILL')
      await exit
      server = await start()
    },
    async 'database killed'() {
      await cluster.halt('killed')
      await cluster.resume()
    },
    async 'line cut'() {
      line.cut()
    },
    async 'answers held'() {
      line.hold('answers')
      // The engine gives up, writes again over another connection, and finds out what became of the first.
      await replies(20)
      line.release()
    },
  }
  const names = Object.keys(kinds) as (keyof typeof kinds)[]
  for (let fault = 0; fault < faults; fault++) {
    await replies(1 + below(200))
    const kind = names[fault % names.length]!
    struck.push(kind)
    await kinds[kind]()
  }
  await many.stop()
  await many.check()
  const exit = once(server, 'exit')
  server.send('close')
  assert.equal((await exit)[0], 0)
  t.diagnostic(JSON.stringify({ requests: many.told.size, ...many.counts, struck }))

  const digests = new Set<string>()
  for (const each of ['0', 'new']) {
    const engine = await openTill(join(home, each), postgresLog({ connection }))
    digests.add(await engine.digest())
    await engine.close()
  }
  assert.equal(digests.size, 1, 'two machines derive other tables')
})
