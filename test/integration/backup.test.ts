import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine, systemClock } from 'hence'
import { memoryStorage } from 'hence/testing'
import { v7 } from 'uuid'
import { copyLog } from '../../src/log/file-log/copy.ts'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { readSnapshot, snapshotLog } from '../../src/log/file-log/snapshot.ts'
import { backup, restore } from '../../src/offline/backup.ts'
import { verify } from '../../src/offline/verify.ts'
import { hence, started } from '../hence-process.ts'
import type notes from '../server/notes.ts'

// A backup that lacks an acknowledged request, or has an event without its cause, would be worse than none.

const module = fileURLToPath(import.meta.resolve('../server/notes.ts'))

/** Removed at the very end: an engine that is closed after its directory is gone reports lost data. */
const folders: string[] = []
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))))

async function folderFor(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-backup-'))
  folders.push(folder)
  return folder
}

const open = (data: string) =>
  createEngine<typeof notes>({ app: module, data, partitions: 3, audit: true, report: () => {} })

type Engine = Awaited<ReturnType<typeof open>>

const send = (engine: Engine, number: number) =>
  engine.submit('write', { owner: `o${number % 5}`, number, text: 'x' }, { requestId: v7() })

test('a backup beside a running engine has every request that was acknowledged before it', async (t) => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const engine = await open(data)
  for (let i = 0; i < 50; i++) await send(engine, i)
  await mkdir(join(data, 'promotions'), { recursive: true })
  await writeFile(join(data, 'promotions/1-0.ndjson'), '{}\n')
  let stopped = false
  let sent = 50
  const load = (async () => {
    while (!stopped) await send(engine, sent++)
  })()
  const { code, stdout, stderr } = await hence([
    'backup',
    '--data',
    data,
    '--to',
    join(folder, 'copy'),
    '--json',
  ])
  stopped = true
  await load
  assert.equal(code, 0, stdout + stderr)
  const { ok, records } = JSON.parse(stdout)
  assert.ok(ok && records >= 50)
  const { logId } = engine.stats()
  await engine.close()

  const restoring = ['restore', '--from', join(folder, 'copy'), '--to', join(folder, 'again'), '--json']
  const restored = await hence(restoring)
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(JSON.parse(restored.stdout).records, records)
  // The signing key is not in the copy, so it must be given.
  assert.equal(JSON.parse(restored.stdout).needsKey, true)
  await copyFile(join(data, 'audit/key.pem'), join(folder, 'again/audit/key.pem'))
  assert.equal(await readFile(join(folder, 'again/promotions/1-0.ndjson'), 'utf8'), '{}\n')
  const again = await open(join(folder, 'again'))
  t.after(() => again.close())
  assert.equal(again.stats().logId, logId)
  await again.idle()
  for (let number = 0; number < 50; number++) {
    assert.ok(await again.get('notes', [`o${number % 5}`, number]), `note ${number}`)
  }
  // Signing continues from the copied heads.
  assert.equal((await stat(join(folder, 'again/audit/key.pem'))).mode & 0o777, 0o600)
  const reply = await send(again, 1_000_000)
  assert.equal(reply.status, 'accepted')
  assert.ok(await again.audit.receipt(reply.requestId))
})

test('the signing key is in no backup; a restored log is given it or a new one, or does not start to sign', async () => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const to = (name: string) => join(folder, name)
  const engine = await open(data)
  await send(engine, 1)
  await engine.close()
  const secret = await readFile(join(data, 'audit/key.pem'), 'utf8')
  const publicKey = await readFile(join(data, 'audit/public-key.pem'), 'utf8')
  await backup({ data, to: to('copy') })
  for (const entry of await readdir(to('copy'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const text = await readFile(join(entry.parentPath, entry.name), 'latin1')
    assert.ok(!text.includes(secret) && !/PRIVATE KEY/.test(text), entry.name)
  }

  // Nor does another directory get it that is made out of the original.
  const without = await hence(['restore', '--from', data, '--to', to('without')])
  assert.equal(without.code, 0, without.stderr)
  assert.match(without.stderr, /signing key is in no backup/)
  await assert.rejects(open(to('without')), { code: 'signing-key-missing', advice: 'operator' })
  assert.equal(await readFile(join(to('without'), 'audit/public-key.pem'), 'utf8'), publicKey)

  const { privateKey: foreign } = generateKeyPairSync('ed25519')
  const from = to('copy')
  await restore({ from, to: to('wrong') })
  await writeFile(join(to('wrong'), 'audit/key.pem'), foreign.export({ type: 'pkcs8', format: 'pem' }))
  await assert.rejects(open(to('wrong')), { code: 'signing-key-mismatch' })
  await writeFile(join(to('wrong'), 'audit/key.pem'), 'no key')
  await assert.rejects(open(to('wrong')), { code: 'signing-key-unusable' })

  const asked = await hence(['start', module, '--data', to('without'), '--open', '--port', '0', '--audit'])
  assert.equal(asked.code, 6)
  assert.match(asked.stderr, /signing-key-missing: .*--new-key/)
  const server = await started([module, '--data', to('without'), '--audit', '--new-key'])
  assert.equal(await server.stop(), 0)
  const again = await open(to('without'))
  await send(again, 2)
  await again.close()
  assert.notEqual(await readFile(join(to('without'), 'audit/public-key.pem'), 'utf8'), publicKey)
  await backup({ data: to('without'), to: to('second') })
  // Heads of both keys are checked.
  const { ok, heads, flaws } = await verify({ data: to('second') })
  assert.ok(ok && heads >= 2, JSON.stringify(flaws))
})

test('a file in the place of a folder is no reason for a copy without it', async () => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const engine = await open(data)
  await send(engine, 1)
  await engine.close()
  await mkdir(join(data, 'promotions'))
  const to = join(folder, 'copy')
  for (const name of ['code', 'promotions', 'audit']) {
    await rename(join(data, name), join(folder, name))
    await writeFile(join(data, name), '')
    await assert.rejects(backup({ data, to }), { code: 'file-misplaced' })
    await rm(join(data, name))
    await rename(join(folder, name), join(data, name))
  }
  assert.equal((await backup({ data, to })).ok, true)
})

test('a restore to a time has the tables that were live then', async () => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const engine = await open(data)
  const moments: { readonly until: number; readonly digest: string }[] = []
  for (let i = 0; i < 40; i++) {
    await send(engine, i)
    await engine.idle()
    const { logTime } = engine.stats()
    // Times differ only in their milliseconds.
    if (i % 13 === 0) moments.push({ until: logTime, digest: await engine.digest() })
    while (systemClock.now() <= logTime) await engine.idle()
  }
  await engine.close()
  for (const [i, { until, digest }] of moments.entries()) {
    const to = join(folder, `until-${i}`)
    const { code, stderr } = await hence([
      ...['restore', '--from', data, '--to', to, '--until', String(until)],
    ])
    assert.equal(code, 0, stderr)
    await copyFile(join(data, 'audit/key.pem'), join(to, 'audit/key.pem'))
    const then = await open(to)
    await then.idle()
    assert.equal(await then.digest(), digest)
    await then.close()
    assert.equal((await hence(['verify', '--data', to])).code, 0)
  }
  const taken = await hence(['restore', '--from', data, '--to', join(folder, 'until-0')])
  assert.equal(taken.code, 1)
  assert.match(taken.stderr, /folder-not-empty/)
  assert.equal(
    (await hence(['restore', '--from', data, '--to', join(folder, 'x'), '--until', 'then'])).code,
    2,
  )
})

test('a log of many segments can be cut at every time', async () => {
  const folder = await folderFor()
  let now = 0
  const log = await openFileLog({
    directory: join(folder, 'data'),
    segmentBytes: 600,
    sealAfterMs: 60_000,
    clock: { now: () => now },
  })
  for (now = 1; now <= 12; now++)
    await log.append(0, [Buffer.from(`record ${now}`), Buffer.alloc(now * 9, 'x')])
  const snapshot = (await snapshotLog(join(folder, 'data')))!
  assert.ok(snapshot.partitions[0]!.findings!.segments.length > 4)
  for (let until = 0; until <= 13; until++) {
    const to = join(folder, `until-${until}`)
    await copyLog(snapshot, to, { until })
    const copy = await openFileLog({ directory: to, report: assert.fail as never })
    const records: string[] = []
    for await (const batch of copy.read(0, 0)) records.push(...batch.records.map(String))
    assert.deepEqual(
      records.filter((_, i) => i % 2 === 0),
      Array.from({ length: Math.min(until, 12) }, (_, i) => `record ${i + 1}`),
    )
    await copy.append(0, [Buffer.from('more')])
    await copy.close()
  }
  await log.close()
})

test('a log of many segments can be cut at every offset, also within a batch, but not within damage', async () => {
  const folder = await folderFor()
  const log = await openFileLog({ directory: join(folder, 'data'), segmentBytes: 600, sealAfterMs: 60_000 })
  for (let i = 0; i < 12; i++)
    await log.append(0, [Buffer.from(`record ${2 * i}`), Buffer.from(`record ${2 * i + 1}`.padEnd(i * 9))])
  await log.close()
  const snapshot = (await snapshotLog(join(folder, 'data')))!
  assert.ok(snapshot.partitions[0]!.findings!.segments.length > 4)
  for (let end = 0; end <= 24; end++) {
    const to = join(folder, `end-${end}`)
    await copyLog(snapshot, to, { ends: [end] })
    const copy = await openFileLog({ directory: to, report: assert.fail as never })
    assert.equal((await copy.append(0, [Buffer.from('more')])).offset, end)
    const records: string[] = []
    for await (const batch of copy.read(0, 0))
      records.push(...batch.records.map((each) => String(each).trim()))
    assert.deepEqual(records, [...Array.from({ length: end }, (_, i) => `record ${i}`), 'more'])
    await copy.close()
  }
  const { path } = snapshot.partitions[0]!.findings!.segments[1]!
  const bytes = await readFile(path)
  const record = /record (\d+)/.exec(bytes.toString('latin1'))!
  bytes[record.index] = bytes[record.index]! ^ 1
  await writeFile(path, bytes)
  const within = copyLog(snapshot, join(folder, 'damaged'), { ends: [Number(record[1]) + 1] })
  await assert.rejects(within, { code: 'log-damaged' })
})

test('a restore to right after any record has the tables of that moment', async (t) => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const requests = Array.from({ length: 12 }, (_, i) => ({ owner: `o${i % 3}`, number: i % 9, text: 'x' }))
  const engine = await createEngine<typeof notes>({ app: module, data, audit: true, report: () => {} })
  // A log begins with a record of the code version.
  const before = 1
  // All at once, so that batches have several records, and most records are not the last of their batch.
  const replies = await Promise.all(
    requests.map((input) => engine.submit('write', input, { requestId: v7() })),
  )
  await engine.close()
  assert.deepEqual(
    replies.map(({ token }) => token),
    requests.map((_, i) => `0:${i + before}`),
  )
  const batches = (await snapshotLog(data))!
  let count = 0
  for await (const _ of readSnapshot(batches.partitions[0]!)) count++
  assert.ok(count < requests.length / 2)

  const again = await createEngine<typeof notes>({ app: module, data: memoryStorage(), report: () => {} })
  t.after(() => again.close())
  for (const [i, input] of requests.entries()) {
    await again.submit('write', input, { requestId: v7() })
    const to = join(folder, `at-${i}`)
    const { records, ends, flaws } = await restore({
      from: data,
      to,
      at: [{ partition: 0, offset: before + i }],
    })
    await copyFile(join(data, 'audit/key.pem'), join(to, 'audit/key.pem'))
    assert.deepEqual([records, ends, flaws], [before + i + 1, [before + i + 1], []])
    const then = await createEngine<typeof notes>({
      app: module,
      data: to,
      audit: true,
      report: assert.fail as never,
    })
    assert.equal(await then.digest(), await again.digest(), `after record ${i}`)
    const reply = await then.submit('feel', { owner: 'o1', mood: 'good' }, { requestId: v7() })
    assert.equal(reply.token, `0:${before + i + 1}`)
    await then.close()
  }
})

test('with several partitions, a restore to any record has no event without its cause', async () => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const engine = await open(data)
  const moments: { readonly at: string; readonly digest: string }[] = []
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 12 }, (_, i) => send(engine, round * 12 + i)))
    await engine.idle()
    const at = engine.stats().applied.flatMap((end, i) => (end > 0 ? [`${i}:${end - 1}`] : []))
    moments.push({ at: at.join(','), digest: await engine.digest() })
  }
  const { applied } = engine.stats()
  await engine.close()
  for (const [i, { at, digest }] of moments.entries()) {
    const to = join(folder, `moment-${i}`)
    const { code, stdout, stderr } = await hence([
      'restore',
      '--from',
      data,
      '--to',
      to,
      '--at',
      at,
      '--json',
    ])
    assert.equal(code, 0, stdout + stderr)
    await copyFile(join(data, 'audit/key.pem'), join(to, 'audit/key.pem'))
    const then = await open(to)
    await then.idle()
    assert.equal(await then.digest(), digest)
    await then.close()
  }
  for (const [partition, end] of applied.entries()) {
    for (let offset = 0; offset < end; offset += 12) {
      const to = join(folder, `at-${partition}-${offset}`)
      const { ends, flaws } = await restore({ from: data, to, at: [{ partition, offset }] })
      assert.equal(ends[partition], offset + 1)
      assert.deepEqual(flaws, [])
      const then = await createEngine<typeof notes>({ app: module, data: to, report: assert.fail as never })
      await then.idle()
      await then.close()
    }
  }
  const to = join(folder, 'later')
  const far = await hence(['restore', '--from', data, '--to', to, '--at', `0:${applied[0]}`])
  assert.equal(far.code, 1)
  assert.match(far.stderr, /token-unknown/)
  for (const at of ['0', '0:1,0:2', '0:1:2', '']) {
    assert.equal((await hence(['restore', '--from', data, '--to', to, '--at', at])).code, 2, at)
  }
  assert.equal((await hence(['restore', '--from', data, '--to', to, '--at', '0:1', '--until', '0'])).code, 2)
  // Partition 0 whole and the others empty: events would lose their causes.
  const early = await hence(['restore', '--from', data, '--to', to, '--at', `0:${applied[0]! - 1},1:0,2:0`])
  assert.equal(early.code, 0, early.stderr)
  assert.match(early.stderr, /Partition 0 ends before 0:\d+, not after/)
})

test('a backup beside a running engine has no event without its cause, whichever partition it reads first', async (t) => {
  const folder = await folderFor()
  const data = join(folder, 'data')
  const engine = await createEngine<typeof notes>({ app: module, data, partitions: 4, report: () => {} })
  t.after(() => engine.close())
  let stopped = false
  let sent = 0
  const people = 'abcdefghijklmnop'.split('')
  const lanes = Array.from({ length: 16 }, async (_, lane) => {
    while (!stopped) {
      const input = { from: people[lane]!, to: people[sent++ % people.length]!, text: 'x' }
      await engine.submit('send', input, { requestId: v7() })
    }
  })
  const copies: string[] = []
  for (let i = 0; i < 4; i++) {
    while (sent < 400 * (i + 1)) await new Promise(setImmediate)
    copies.push(join(folder, `copy-${i}`))
    const { flaws } = await backup({ data, to: copies.at(-1)! })
    assert.deepEqual(flaws, [])
  }
  stopped = true
  await Promise.all(lanes)
  for (const copy of copies) {
    const again = await createEngine<typeof notes>({ app: module, data: copy, report: assert.fail as never })
    await again.idle()
    await again.close()
  }
})
