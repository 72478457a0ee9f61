import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type App, type Carrier, createEngine, type Engine, HenceError } from 'hence'
import { type PostgresLogOptions, postgresLog, postgresLogSql } from 'hence/postgres'
import type { ClientConfig } from 'pg'
import { type FileLog, openFileLog } from '../../src/log/file-log/file-log.ts'
import type * as made from '../apps/boxes.ts'
import type * as statementsMade from '../apps/statements.ts'
import { appsOf } from '../apps.ts'
import { appsOnCarrier, releaseFalsely } from '../apps-on-carrier.ts'
import { logConformance } from '../log-conformance.ts'
import { rowsOf, startLogCluster } from '../postgres-cluster.ts'

// The log in a real PostgreSQL. The worst result would be a record that was acknowledged and is not there, or
// that is there twice.

const store = await appsOf<typeof made>(import.meta.resolve('../apps/boxes.ts')).store()
const home = await mkdtemp(join(tmpdir(), 'hence-postgres-log-'))
const { cluster, skip: why, end } = await startLogCluster()
const connection: ClientConfig = cluster?.connection ?? {}

const open: { close(): Promise<void> }[] = []
after(async () => {
  for (const each of open.reverse()) await each.close().catch(() => {})
  await end()
  await rm(home, { recursive: true, force: true })
})
function closedAfter<T extends { close(): Promise<void> }>(each: T): T {
  open.push(each)
  return each
}

let places = 0
const newPlace = () => `place-${++places}`
const carrierOf = (log: string, more: Partial<PostgresLogOptions> = {}) =>
  postgresLog({ connection, log, report: () => {}, ...more })
const quiet = { report: () => {}, sealAfterMs: 60_000 }
const logOf = async (carrier: Carrier, more: object = {}) =>
  closedAfter(
    await openFileLog({ directory: join(home, randomUUID()), carrier, partitions: 2, ...quiet, ...more }),
  )
const bytesOf = (text: string) => [Buffer.from(text)]
const failsWith = (code: string) => (error: unknown) => error instanceof HenceError && error.code === code

async function contents(log: FileLog, partition = 0): Promise<string[]> {
  const found: string[] = []
  for await (const { records } of log.read(partition, 0)) found.push(...records.map(String))
  return found
}

const ask = <Row extends object>(text: string, given = connection) => rowsOf<Row>(given, text)

if (cluster !== undefined) {
  logConformance('file log over PostgreSQL', {
    durable: true,
    newPlace: async () => newPlace(),
    open: (place, options) =>
      openFileLog({ ...quiet, ...options, directory: join(home, place), carrier: carrierOf(place) }),
  })
  logConformance('file log over PostgreSQL, each time on a new machine and connection', {
    durable: true,
    newPlace: async () => newPlace(),
    open: (place, options) =>
      openFileLog({
        ...quiet,
        ...options,
        directory: join(home, randomUUID()),
        // As behind a pooler that gives each transaction another session.
        carrier: carrierOf(place, { connection: { ...connection, maxUses: 1 } as ClientConfig }),
      }),
  })
}

const skip = { skip: why }

test('an engine derives the same from a directory and from PostgreSQL, on any machine', skip, async () => {
  const place = newPlace()
  const clock = { now: () => 1_700_000_000_000 }
  const shared = { app: store, partitions: 3, clock: { ...clock, setTimer: () => () => {} }, ...quiet }
  const inFiles = closedAfter(await createEngine({ ...shared, data: join(home, randomUUID()) }))
  const first = closedAfter(
    await createEngine({ ...shared, data: join(home, randomUUID()), log: carrierOf(place) }),
  )
  const send = async (engine: Engine<typeof made.store>, from: number) => {
    for (let n = from; n < from + 20; n++)
      await engine.submit(
        'put',
        { box: `b${n % 5}`, n },
        { requestId: `request-${String(n).padStart(12, '0')}` },
      )
  }
  for (const engine of [inFiles, first]) await send(engine as never, 0)
  assert.equal(await first.digest(), await inFiles.digest())
  // Another machine takes the log, and finds the code there.
  const log = await releaseFalsely(carrierOf(place))
  const second = closedAfter(await createEngine({ ...shared, data: join(home, randomUUID()), log }))
  assert.equal(await second.digest(), await inFiles.digest())
  assert.equal(second.stats().logId, first.stats().logId)
  for (const engine of [inFiles, second]) await send(engine as never, 20)
  await assert.rejects(
    send(first as never, 40),
    (error) => error instanceof HenceError && error.advice === 'retry',
  )
  await assert.rejects(send(first as never, 40), failsWith('engine-stopped'))
  const health = await first.health()
  assert.ok(!health.ready && /log-taken/.test(health.message))
  await send(inFiles as never, 40)
  await send(second as never, 40)
  assert.equal(await second.digest(), await inFiles.digest())
})

test('retail and the airline derive the same from files and from PostgreSQL', skip, () =>
  appsOnCarrier(home, async (log) => carrierOf(log)),
)

test(
  'rows that new code fills from the past are the same on a machine that follows the log',
  skip,
  async () => {
    const apps = appsOf<typeof statementsMade>(import.meta.resolve('../apps/statements.ts'))
    const [before, code] = [await apps.bare(), await apps.grown(true)]
    const place = newPlace()
    const start = async (name: string, app: object) => {
      const data = join(home, `${place}-${name}`)
      await mkdir(join(data, 'code'), { recursive: true })
      await writeFile(join(data, 'code', `${before.hash}.js`), before.code)
      const options = { app, data, log: carrierOf(place), partitions: 3, onCodeChange: 'continue', ...quiet }
      return closedAfter((await createEngine(options as never)) as Engine<App>)
    }
    const old = await start('a', before)
    for (let n = 0; n < 300; n++) {
      const input = { account: `account-${n % 40}`, cents: n * 3 }
      await old.enqueue('pay', input as never, { requestId: `r${n}` })
    }
    await old.idle()
    await old.close()
    const filled = await start('a', code)
    assert.equal((await filled.scan('entries' as never, { limit: 1_000 })).length, 300)
    const digest = await filled.digest()
    await filled.close()
    assert.equal(await (await start('b', code)).digest(), digest)
  },
)

test('of two processes that fight for the log each acknowledged record is there once', skip, async () => {
  const place = newPlace()
  const acknowledged = new Set<string>()
  const unsure = new Set<string>()
  let takings = 0
  const fight = async (name: string) => {
    const directory = join(home, randomUUID())
    while (takings < 12) {
      takings++
      const log = await openFileLog({ directory, carrier: carrierOf(place), partitions: 2, ...quiet }).catch(
        (error) => {
          assert.ok(failsWith('log-taken')(error) || failsWith('log-write-unsure')(error), String(error))
        },
      )
      for (let n = 0; n < 30 && log !== undefined; n++) {
        const text = `${name}-${takings}-${n}`
        const appended = await log.append(n % 2, bytesOf(text)).catch((error) => {
          unsure.add(text)
          return error as HenceError
        })
        if (!(appended instanceof Error)) acknowledged.add(text)
        else if (appended.code === 'log-taken') break
      }
      await log?.close()
    }
  }
  await Promise.all([fight('a'), fight('b'), fight('c')])
  const log = await logOf(carrierOf(place))
  const found = [...(await contents(log, 0)), ...(await contents(log, 1))]
  assert.equal(new Set(found).size, found.length, 'a record is there twice')
  for (const text of acknowledged) assert.ok(found.includes(text), `${text} is not there`)
  for (const text of found) assert.ok(acknowledged.has(text) || unsure.has(text), text)
})

test('what PostgreSQL refuses is a clear error, and nothing is lost', skip, async () => {
  const open = (more: Partial<PostgresLogOptions>) => logOf(carrierOf(newPlace(), more))
  await assert.rejects(open({ table: 'nowhere' }), (error) => {
    assert.ok(failsWith('carrier-unusable')(error))
    return /hence log migrate/.test((error as Error).message)
  })
  await assert.rejects(
    open({ connection: { ...connection, database: 'nowhere' } }),
    failsWith('carrier-unusable'),
  )
  await assert.rejects(open({ connection: { ...connection, user: 'nobody' } }), failsWith('carrier-unusable'))
  await assert.rejects(
    open({ connection: { ...connection, host: '/nowhere' } }),
    failsWith('carrier-unreachable'),
  )
  await assert.rejects(open({ connection: { ...connection, ssl: true } }), (error) => {
    assert.ok(failsWith('carrier-unusable')(error))
    return /turn TLS on/.test((error as Error).message)
  })

  await ask('CREATE ROLE reader LOGIN; GRANT SELECT ON hence_log, hence_log_kept TO reader')
  const reader = { ...connection, user: 'reader' }
  await assert.rejects(open({ connection: reader }), (error) => {
    assert.ok(failsWith('carrier-unusable')(error))
    return /grant/.test((error as Error).message)
  })
  // The rights that the statements name are enough.
  await ask('CREATE ROLE hence_user LOGIN')
  const grants = [...postgresLogSql().matchAll(/GRANT .*;/g)].map(([text]) =>
    text.replace(/hence;/, 'hence_user;'),
  )
  assert.equal(grants.length, 3)
  await ask(grants.join('\n'))
  const place = newPlace()
  const least = { connection: { ...connection, user: 'hence_user' } }
  const reports: string[] = []
  const log = await logOf(carrierOf(place, { ...least, report: ({ code }) => reports.push(code) }))
  assert.deepEqual(reports, ['log-not-replicated'])
  await log.append(0, bytesOf('a'))

  // A server that only reads, as during a failover, is waited for.
  await ask('ALTER ROLE hence_user SET default_transaction_read_only = on')
  await ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hence_user'")
  for (let n = 0; n < 2; n++)
    await assert.rejects(log.append(0, bytesOf('b')), failsWith('carrier-unreachable'))
  await ask('ALTER ROLE hence_user RESET default_transaction_read_only')
  await log.append(0, bytesOf('c'))
  assert.deepEqual(await contents(log), ['a', 'c'])

  await ask('ALTER ROLE hence_user SET synchronous_commit = off')
  await assert.rejects(logOf(carrierOf(place, least)), (error) => {
    assert.ok(failsWith('carrier-unusable')(error))
    return /synchronous_commit/.test((error as Error).message)
  })
})

test('a cancelled wait for a standby acknowledges nothing', skip, async () => {
  const log = await logOf(carrierOf(newPlace()))
  await log.append(0, bytesOf('a'))
  await ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
  await ask('SELECT pg_reload_conf()')
  try {
    const waiting = "SELECT pg_cancel_backend(pid) AS done FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    // Commits wait from some moment after the reload on.
    for (let waits = false; !waits; ) {
      let isOver = false
      const commit = ask("SELECT pg_logical_emit_message(true, '', '')").finally(() => {
        isOver = true
      })
      while (!isOver && !waits) waits = (await ask(waiting)).length > 0
      await commit
    }
    const appended = log.append(0, bytesOf('b')).then(
      () => 'acknowledged',
      (error: HenceError) => error.code,
    )
    while ((await ask(waiting)).length === 0);
    assert.equal(await appended, 'carrier-unreachable')
  } finally {
    await ask('ALTER SYSTEM RESET synchronous_standby_names')
    await ask('SELECT pg_reload_conf()')
  }
  assert.deepEqual(await contents(log), ['a', 'b'])
  await log.append(0, bytesOf('c'))
  assert.deepEqual(await contents(log), ['a', 'b', 'c'])
})

test('a database that was restored to before its end is refused', skip, async () => {
  const place = newPlace()
  const directory = join(home, randomUUID())
  const log = await logOf(carrierOf(place), { directory })
  for (const text of ['a', 'b', 'c']) await log.append(0, bytesOf(text))
  await ask(`DELETE FROM hence_log WHERE log = '${place}' AND partition = 0 AND position >= 2`)
  await assert.rejects(log.append(0, bytesOf('d')), failsWith('log-write-unsure'))
  await assert.rejects(log.append(0, bytesOf('e')), failsWith('carrier-lost-records'))
  await log.close().catch(() => {})
  await assert.rejects(logOf(carrierOf(place), { directory }), failsWith('carrier-lost-records'))
})
