import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createEngine, HenceError } from 'hence'
import { copyLogTo, refresh, verify } from 'hence/offline'
import { migratePostgresLog, postgresLog, postgresLogSql } from 'hence/postgres'
import { Client } from 'pg'
import { memoryCarrier } from '../../src/testing/memory-carrier.ts'
import type * as made from '../apps/boxes.ts'
import { appsOf } from '../apps.ts'
import { releaseFalsely } from '../apps-on-carrier.ts'
import { hence, Running } from '../hence-process.ts'
import { logAddress, rowsOf, startLogCluster } from '../postgres-cluster.ts'

// The commands on a log in PostgreSQL, and the way of a log from files into it and back. The worst result
// would be a copy that lacks a record, or that takes the place of another log.

const app = import.meta.resolve('../apps/boxes.ts')
const store = await appsOf<typeof made>(app).store()
const home = await mkdtemp(join(tmpdir(), 'hence-log-copy-'))
const { cluster, skip: why, end } = await startLogCluster()
after(async () => {
  await end()
  await rm(home, { recursive: true, force: true })
})
const addressOf = (log: string) => logAddress(cluster, log)
const carrierOf = (log: string) => postgresLog({ connection: cluster!.connection, log })
const quiet = { report: () => {} }
const failsWith = (code: string) => (error: unknown) => error instanceof HenceError && error.code === code

/** A data directory with some records; returns the digest of its tables. */
async function filled(data: string, count = 40, log?: string): Promise<string> {
  const carrier = log === undefined ? {} : { log: carrierOf(log) }
  const engine = await createEngine({ app: store, data, partitions: 3, ...quiet, ...carrier })
  for (let n = 0; n < count; n++)
    await engine.submit('put', { box: `b${n % 7}`, n }, { requestId: `request-${n}-of-${count}` })
  await engine.idle()
  const digest = await engine.digest()
  await engine.close()
  return digest
}

async function segmentOf(data: string): Promise<Buffer> {
  return readFile(join(data, 'log/p0001/00000000-0000000000000000.segment'))
}

test('the tables are made by a command, and by nothing else', { skip: why }, async () => {
  const address = `${addressOf('none')}&table=fresh`
  const before = await hence(['log', 'cat', '--data', join(home, 'none'), '--log', address])
  assert.match(before.stderr, /carrier-unusable|hence log migrate/)
  const malformed = await hence(['log', 'migrate', '--log', 'postgres://[', '--print'])
  assert.match(malformed.stderr, /option-invalid/)
  const printed = await hence(['log', 'migrate', '--log', address, '--print'])
  assert.equal(printed.stdout.trim(), postgresLogSql({ table: 'fresh' }).trim())
  for (let n = 0; n < 2; n++) {
    const made = await hence(['log', 'migrate', '--log', address])
    assert.equal(made.code, 0, made.stderr)
    assert.match(made.stdout, /^✔ The tables of the log are there\. .*\n$/)
  }
  const after = await hence(['log', 'cat', '--data', join(home, 'none'), '--log', address])
  assert.match(after.stderr, /There is no log in PostgreSQL/)
})

test('each missing right is named, with what grants it', { skip: why }, async () => {
  const { connection } = cluster!
  const ask = (text: string) => rowsOf(connection, text)
  const names = { schema: 'apart', table: 'owned' }
  const as = (user: string) => ({ connection: { ...connection, user }, log: 'rights', ...names })
  await ask('CREATE ROLE owner LOGIN; CREATE ROLE least LOGIN')
  const migrated = (message: RegExp) =>
    assert.rejects(migratePostgresLog(as('owner')), { code: 'carrier-unusable', message })
  await migrated(/schema "apart" does not exist: create the schema\.$/)
  await ask('CREATE SCHEMA apart')
  await migrated(/permission denied .*`GRANT USAGE, CREATE ON SCHEMA "apart"`/)
  await ask('GRANT USAGE, CREATE ON SCHEMA apart TO owner')
  await migratePostgresLog(as('owner'))

  const rights = [...postgresLogSql(names).matchAll(/^-- +(GRANT .*) TO hence;$/gm)].map(([, text]) => text!)
  const each = rights.flatMap((text) => {
    const [, list, on] = /^GRANT (.*) (ON .*)$/.exec(text)!
    return list!.split(', ').map((right) => `${right} ${on}`)
  })
  assert.equal(each.length, 6)
  /** Starts a log, and says what was refused. */
  const run = async (n: number) => {
    const log = postgresLog({ ...as('least'), log: `rights-${n}`, ...quiet })
    const data = join(home, `rights-${n}`)
    const engine = await createEngine({ app: store, data, log, ...quiet })
    await engine.submit('put', { box: 'b', n }, { requestId: 'r' }).finally(() => engine.close())
  }
  for (const right of each) await ask(`GRANT ${right} TO least`)
  await run(0)
  for (const [n, right] of each.entries()) {
    await ask(`REVOKE ${right} FROM least`)
    const message = /permission denied for (table|schema).*grant the rights that `hence log migrate --print`/
    await assert.rejects(run(n + 1), { code: 'carrier-unusable', message }, right)
    await ask(`GRANT ${right} TO least`)
  }
})

test('a log goes into PostgreSQL and back, hash by hash', { skip: why }, async () => {
  const [data, back] = [join(home, 'data'), join(home, 'back')]
  const digest = await filled(data)
  const copied = await hence(['log', 'copy', data, addressOf('copied'), '--json'])
  assert.equal(copied.code, 0, copied.stderr)
  assert.equal(copied.stderr.match(/log-not-replicated/g)?.length, 1)
  // It may not go on by itself: what it acknowledged then would not be in PostgreSQL.
  await assert.rejects(createEngine({ app: store, data, ...quiet }), failsWith('log-is-a-copy'))
  // Again, as after an interruption.
  assert.equal((await hence(['log', 'copy', data, addressOf('copied')])).code, 0)
  const other = join(home, 'other')
  await filled(other, 3)
  await assert.rejects(copyLogTo({ from: other, to: carrierOf('copied') }), failsWith('log-differs'))

  const returned = await hence(['log', 'copy', addressOf('copied'), back, '--json'])
  assert.equal(returned.code, 0, returned.stderr)
  assert.deepEqual(JSON.parse(returned.stdout), JSON.parse(copied.stdout))
  assert.ok((await segmentOf(back)).equals(await segmentOf(data)))
  const checked = await verify({ data: back })
  assert.ok(checked.ok, JSON.stringify(checked))
  const engine = await createEngine({ app: store, data: back, ...quiet })
  assert.equal(await engine.digest(), digest)
  await engine.close()

  // The first directory is now a copy, and an engine goes on with it.
  assert.equal(await filled(data, 0, 'copied'), digest)
  await filled(data, 5, 'copied')
  await assert.rejects(createEngine({ app: store, data, ...quiet }), failsWith('log-is-a-copy'))
  await assert.rejects(copyLogTo({ from: back, to: carrierOf('copied') }), failsWith('log-differs'))
  await assert.rejects(copyLogTo({ from: carrierOf('copied'), to: back }), failsWith('folder-not-empty'))
})

test('a copy that was interrupted is not opened, and goes on where it was', { skip: why }, async () => {
  const data = join(home, 'interrupted')
  const digest = await filled(data)
  const stopping = new AbortController()
  let bytes = 0
  const progress = ({ done }: { done: number }) => {
    bytes = done
    if (done > 2_000) stopping.abort(new Error('stopped'))
  }
  const stopped = copyLogTo({ from: data, to: carrierOf('halves'), progress, signal: stopping.signal })
  await assert.rejects(stopped, /stopped/)
  assert.ok(bytes > 2_000)
  const early = createEngine({ app: store, data: join(home, 'early'), log: carrierOf('halves'), ...quiet })
  await assert.rejects(early, failsWith('log-incomplete'))
  await copyLogTo({ from: data, to: carrierOf('halves') })
  assert.equal(await filled(join(home, 'whole'), 0, 'halves'), digest)
})

test('the commands for a directory bring its copy up to date, or say how old it is', {
  skip: why,
}, async () => {
  const [active, other] = [join(home, 'active'), join(home, 'other-machine')]
  await filled(active, 10, 'commands')
  const url = addressOf('commands')
  const count = async (data: string, ...more: string[]) => {
    const { stdout, stderr, code } = await hence(['log', 'cat', '--data', data, '--json', ...more])
    assert.equal(code, 0, stderr)
    return { lines: stdout.trim().split('\n').length, stderr }
  }
  const first = await count(other, '--log', url)
  assert.match(
    first.stderr,
    /^There was no log in .*other-machine: it now has a copy of the one in PostgreSQL/,
  )
  await filled(active, 12, 'commands')
  const old = await count(other)
  assert.equal(old.lines, first.lines)
  assert.match(old.stderr, /has a copy of the log in PostgreSQL .* as of 20\d\d-.*--log brings it up to date/)
  const grown = await count(other, '--log', url)
  assert.equal(grown.lines, first.lines + 12)
  assert.equal(grown.stderr, '')
  for (const args of [['verify'], ['doctor'], ['backup', '--to', join(home, 'backup')]]) {
    const { code, stderr } = await hence([...args, '--data', other, '--log', url])
    assert.equal(code, 0, stderr)
  }
  const verified = await verify({ data: other })
  assert.ok(verified.ok, JSON.stringify(verified))
  assert.deepEqual(await readdir(join(other, 'code')), await readdir(join(active, 'code')))
  // A backup is a log of its own, which no command changes.
  await filled(active, 14, 'commands')
  assert.equal((await hence(['verify', '--data', join(home, 'backup'), '--log', url])).code, 0)
  assert.ok((await segmentOf(join(home, 'backup'))).equals(await segmentOf(other)))
  assert.equal((await hence(['doctor', '--data', join(home, 'backup')])).code, 0)
  await (await createEngine({ app: store, data: join(home, 'backup'), ...quiet })).close()
  for (const each of [other, join(home, 'third')]) await refresh({ data: each, log: carrierOf('commands') })
  assert.ok((await segmentOf(join(home, 'third'))).equals(await segmentOf(other)))
  const lost = join(home, 'ahead')
  await cp(active, lost, { recursive: true })
  const client = new Client(cluster!.connection)
  await client.connect()
  await client.query(`DELETE FROM hence_log WHERE log = 'commands' AND position > 6`)
  await client.end()
  const refused = await hence(['verify', '--data', lost, '--log', url, '--json'])
  assert.match(refused.stderr, /carrier-lost-records/)
  // The copy that remembers them brings them back.
  await copyLogTo({ from: lost, to: carrierOf('commands') })
  assert.equal((await hence(['verify', '--data', lost, '--log', url])).code, 0)
})

test('hence start keeps the log where --log says, and stops when another takes it', {
  skip: why,
}, async (t) => {
  const started: Running[] = []
  t.after(() => {
    for (const each of started) each.process.kill()
  })
  const start = async (data: string) => {
    const app = join(import.meta.dirname, '../apps/long-texts.ts')
    const log = { HENCE_LOG: addressOf('served') }
    const running = new Running(['start', app, '--open', '--port', '0', '--data', join(home, data)], {
      env: log,
    })
    started.push(running)
    return { running, url: / listens on (\S+)$/.exec(await running.line(/ listens on /))![1]! }
  }
  const send = (url: string, id: string) =>
    hence(['submit', 'say', '{"box":"a","length":3}', '--id', id, '--url', url, '--json'])
  const first = await start('one')
  assert.equal((await send(first.url, 'request-1')).code, 0)
  const log = await releaseFalsely(carrierOf('served'))
  await log.close()
  const second = await start('two')
  assert.equal(await first.running.ended, 5)
  assert.match(first.running.errors, /log-taken/)
  assert.match((await send(second.url, 'request-1')).stdout, /"replayed":true/)
  assert.match((await send(second.url, 'request-2')).stdout, /"replayed":false/)
})

test('a command on a directory with a log of its own refuses another log', async () => {
  const [own, other] = [join(home, 'own'), join(home, 'copy-of-other')]
  await filled(own, 3)
  const log = memoryCarrier()
  const engine = await createEngine({ app: store, data: other, log, ...quiet })
  await engine.close()
  await assert.rejects(refresh({ data: own, log }), failsWith('log-differs'))
  await assert.rejects(refresh({ data: own, log: memoryCarrier() }), failsWith('log-differs'))
})
