import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmod, chown, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createEngine, type Standby } from 'hence'
import { migratePostgresLog, postgresLog } from 'hence/postgres'
import { carrierConformance } from 'hence/testing'
import { Client, type ClientConfig } from 'pg'
import { postgresLogAt } from '../../src/postgres/log.ts'
import type * as made from '../apps/boxes.ts'
import { appsOf } from '../apps.ts'
import { makeCertificate } from '../certificate.ts'
import { freePorts } from '../free-port.ts'
import { hence } from '../hence-process.ts'
import { type Cluster, NoPostgres, rowsOf, startCluster, unprivileged } from '../postgres-cluster.ts'

// A log in PostgreSQL behind a real transaction pooler, PgBouncer, and over TLS.

const home = await mkdtemp(join(tmpdir(), 'hence-pooler-'))
const clusterHome = await mkdtemp(join(tmpdir(), 'hence-cluster-'))
const [port, poolerPort] = (await freePorts(2)) as [number, number]
let pooler: ChildProcess | undefined
const cluster: Cluster | NoPostgres = await startCluster(clusterHome, port).catch((error) => {
  if (error instanceof NoPostgres) return error
  throw error
})
after(async () => {
  pooler?.kill()
  if (!(cluster instanceof NoPostgres)) await cluster.stop()
  for (const each of [home, clusterHome]) await rm(each, { recursive: true, force: true })
})

if (cluster instanceof NoPostgres) test('a pooler and TLS', { skip: cluster.message }, () => {})
else await suite(cluster)

async function suite({ connection, data }: Cluster): Promise<void> {
  await migratePostgresLog({ connection })
  let places = 0
  const newPlace = () => `place-${++places}`
  const carrierOf = (log: string, through: ClientConfig | string) =>
    postgresLog({ connection: through, log, report: () => {} })
  const ask = <Row extends object>(text: string) => rowsOf<Row>(connection, text)

  const { error } = spawnSync('pgbouncer', ['--version'])
  if (error) test('a log behind a pooler', { skip: 'there is no pgbouncer on this machine' }, () => {})
  else await behindPooler()

  async function behindPooler(): Promise<void> {
    const pooled = { host: '127.0.0.1', port: poolerPort, user: 'hence', database: 'postgres' }
    const [users, settings] = [join(clusterHome, 'users.txt'), join(clusterHome, 'pgbouncer.ini')]
    await writeFile(users, '"hence" ""\n')
    // Each transaction may get another of the three sessions.
    await writeFile(
      settings,
      `[databases]
postgres = host=127.0.0.1 port=${port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${poolerPort}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
`,
    )
    for (const each of [users, settings]) await chmod(each, 0o644)
    pooler = spawn('pgbouncer', [settings], { ...(await unprivileged()), stdio: 'ignore' })
    for (;;) {
      assert.equal(pooler.exitCode, null, 'pgbouncer ended')
      const client = new Client(pooled)
      if (
        await client.connect().then(
          () => true,
          () => false,
        )
      ) {
        await client.end()
        break
      }
      await pause(20)
    }

    carrierConformance('the carrier in PostgreSQL behind a transaction pooler', {
      newPlace: async () => newPlace(),
      open: async (place) => carrierOf(place, pooled),
    })

    test('behind a pooler a standby follows, and takes over', async (t) => {
      const store = await appsOf<typeof made>(import.meta.resolve('../apps/boxes.ts')).store()
      const place = newPlace()
      const start = (name: string, more: object = {}) =>
        createEngine({
          ...{ app: store, data: join(home, name), log: carrierOf(place, pooled), report: () => {} },
          ...more,
        })
      const put = (n: number) => ['put', { box: `b${n % 3}`, n }, { requestId: `r-${n}` }] as const
      const active = await start('a')
      t.after(() => active.close())
      await Promise.all(Array.from({ length: 50 }, (_, n) => active.submit(...put(n))))
      await assert.rejects(start('b'), { code: 'log-in-use' })
      const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<typeof made.store>>()
      const next = start('b', { wait: true, standby })
      await offered
      const digest = await active.digest()
      await active.close()
      const taken = await next
      t.after(() => taken.close())
      assert.equal(await taken.digest(), digest)
      assert.equal((await taken.submit(...put(7))).replayed, true)
    })

    test('behind a pooler a cancelled wait for a standby acknowledges nothing', async (t) => {
      const carrier = carrierOf(newPlace(), pooled)
      t.after(() => carrier.close())
      await carrier.facts({ logId: 'l', partitions: 1 } as never)
      const batch = (n: number) => ({
        ...{ bytes: Buffer.from(`${n}`), offset: n },
        ...{ before: Buffer.alloc(32, n), hash: Buffer.alloc(32, n + 1) },
      })
      let end = 0
      await ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
      await ask('SELECT pg_reload_conf()')
      const waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
      try {
        const hasty = postgresLog({ connection: pooled, log: 'hasty', answerMs: 500, report: () => {} })
        t.after(() => hasty.close())
        let error: Error | undefined
        while (!error) await hasty.put('x', Buffer.alloc(1)).catch((each) => (error = each))
        assert.match(error.message, /gives no answer; does it wait for a synchronous standby/)
        // The sessions of the pooler learn of the setting at different moments.
        for (let outcome = ''; outcome !== 'carrier-unreachable'; ) {
          let isOver = false
          const appended = carrier.append(0, batch(end), end).finally(() => {
            isOver = true
          })
          const settled = appended.then(String, (error) => error.code)
          while (!isOver) await ask(waiting)
          outcome = await settled
          assert.ok([`${end}`, 'carrier-unreachable'].includes(outcome), outcome)
          end++
        }
      } finally {
        await ask('ALTER SYSTEM RESET synchronous_standby_names')
        await ask('SELECT pg_reload_conf()')
      }
      // It is there after all, and nobody has an acknowledgement.
      assert.equal(await carrier.append(0, batch(end - 1), end - 1), undefined)
      assert.equal(await carrier.append(0, batch(end), end), end)
    })
  }

  test('over TLS: each sslmode, and a clear error for each way not to get in', async () => {
    const { key, certificate } = await makeCertificate(home)
    const user = await unprivileged()
    for (const [from, name] of [
      [key, 'server.key'],
      [certificate, 'server.crt'],
    ] as const) {
      await copyFile(from, join(data, name))
      await chmod(join(data, name), 0o600)
      if (user) await chown(join(data, name), user.uid, user.gid)
    }
    const place = newPlace()
    const facts = { logId: 'l', partitions: 1 } as never
    const at = (query: string, host = 'localhost') =>
      `postgres://hence@${host}:${port}/postgres?log=${place}&${query}`
    const connect = async (address: string) => {
      const carrier = postgresLog({ ...postgresLogAt(address), report: () => {} })
      await carrier.facts(facts).finally(() => carrier.close())
    }
    const refused = (address: string, message: RegExp) =>
      assert.rejects(connect(address), { code: 'carrier-unusable', message })
    await refused(at('sslmode=verify-full'), /turn TLS on/)

    await ask('ALTER SYSTEM SET ssl = on')
    await ask('SELECT pg_reload_conf()')
    const ca = `sslrootcert=${encodeURIComponent(certificate)}`
    while ((await ask<{ ssl: string }>('SHOW ssl'))[0]!.ssl !== 'on');
    await connect(at(`sslmode=verify-full&${ca}`))
    const warnings: string[] = []
    const warned = ({ message }: Error) => warnings.push(message)
    process.on('warning', warned)
    // Each of them means `verify-full`; the driver would warn that it once will not.
    for (const mode of ['prefer', 'require', 'verify-ca', 'verify-full']) {
      await connect(at(`sslmode=${mode}&${ca}`))
      await refused(at(`sslmode=${mode}`), /self-signed certificate.*check the TLS settings/)
    }
    process.off('warning', warned)
    assert.deepEqual(warnings, [])
    await connect(at('uselibpqcompat=true&sslmode=require'))
    await connect(at('sslmode=no-verify'))
    await connect(at('sslmode=disable'))
    const missing = at('sslmode=verify-full&sslrootcert=/nowhere.pem')
    await refused(missing, /nowhere\.pem.*correct its path/)

    // A password that is missing is no reason to try again, nor to wait until the server hangs up.
    await ask("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    await ask("ALTER SYSTEM SET authentication_timeout = '10min'")
    const rules = join(data, 'pg_hba.conf')
    await writeFile(rules, `host all guarded all scram-sha-256\n${await readFile(rules, 'utf8')}`)
    await ask('SELECT pg_reload_conf()')
    for (const user of ['guarded:wrong', 'guarded']) {
      const address = at('sslmode=disable').replace('hence@', `${user}@`)
      const why = /check the user, the password and `pg_hba\.conf`/
      await refused(address, why)
      const ended = await hence(['log', 'migrate', '--log', address])
      assert.equal(ended.code, 6)
      assert.match(ended.stderr, why)
    }
  })
}
