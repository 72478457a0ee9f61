import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { systemClock } from '../clock.ts'
import type { Report } from '../report.ts'
import { createKey, keysOf, listKeys, revokeKey } from './keys.ts'

async function folder(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'hence-keys-'))
  t.after(() => rm(directory, { recursive: true }))
  return join(directory, 'keys.json')
}

const wanted = { name: 'shop', principal: 'shop-1', permissions: ['submit', 'read'] }

test('a key is accepted until it is revoked, and the file does not contain its secret', async (t) => {
  const file = await folder(t)
  let now = Date.now()
  const keys = keysOf(file, { now: () => now }, () => {})
  assert.equal(await keys.callerOf(`hence_${'a'.repeat(43)}`), undefined)
  const { key, secret } = await createKey(file, wanted)
  assert.match(secret, /^hence_[\w-]{43}$/)
  const text = await readFile(file, 'utf8')
  assert.ok(!text.includes(secret) && !text.includes(secret.slice(6, 20)))
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.equal(key.last4, secret.slice(-4))
  // A running server checks the file once a second.
  now += 1_000
  const caller = await keys.callerOf(secret)
  assert.equal(caller?.principal, 'shop-1')
  assert.deepEqual(caller?.permissions, ['submit', 'read'])
  assert.equal(await keys.callerOf(`${secret.slice(0, -1)}${secret.endsWith('A') ? 'B' : 'A'}`), undefined)
  assert.equal(await revokeKey(file, 'none'), false)
  assert.equal(await revokeKey(file, key.id), true)
  now += 1_000
  assert.equal(await keys.callerOf(secret), undefined)
  assert.deepEqual(await listKeys(file), [])
})

test('a key is refused once it has expired', async (t) => {
  const file = await folder(t)
  let now = Date.parse('2030-01-01T00:00:00Z')
  const { secret } = await createKey(file, { ...wanted, expires: new Date(now + 5_000) }, { now: () => now })
  const keys = keysOf(file, { now: () => now }, () => {})
  assert.ok(await keys.callerOf(secret))
  now += 4_999
  assert.ok(await keys.callerOf(secret))
  now += 1
  assert.equal(await keys.callerOf(secret), undefined)
})

test('an unreadable file is reported and no key is accepted; once mended, keys are accepted again', async (t) => {
  const file = await folder(t)
  let now = Date.now()
  const { secret } = await createKey(file, wanted)
  const reports: Report[] = []
  const keys = keysOf(file, { now: () => now }, (report) => reports.push(report))
  assert.ok(await keys.callerOf(secret))
  const good = await readFile(file)
  for (const bad of ['{', '{"version":2,"keys":[]}', '{"version":1,"keys":[{"hash":"x"}]}', '[]']) {
    await writeFile(file, bad)
    now += 1_000
    await utimes(file, new Date(), new Date(now))
    await assert.rejects(async () => keys.callerOf(secret), { code: 'keys-unreadable', advice: 'operator' })
    await assert.rejects(async () => keys.callerOf(secret), { code: 'keys-unreadable' })
    await assert.rejects(listKeys(file), { code: 'keys-unreadable' })
  }
  assert.ok(reports.every(({ level, message }) => level === 'alarm' && !message.includes(secret)))
  await writeFile(file, good)
  now += 1_000
  assert.ok(await keys.callerOf(secret))
})

test('while the file cannot be read it is looked at once a second, and reported once', async (t) => {
  const file = await folder(t)
  await writeFile(file, '{', { mode: 0o600 })
  let now = Date.now()
  const reports: Report[] = []
  const keys = keysOf(file, { now: () => now }, (report) => reports.push(report))
  for (let i = 0; i < 20; i++) {
    await assert.rejects(async () => keys.callerOf('hence_x'), { code: 'keys-unreadable' })
    now += 100
  }
  assert.equal(reports.length, 1)
  await rm(file)
  const { secret } = await createKey(file, wanted)
  now += 1_000
  assert.ok(await keys.callerOf(secret))
  // A second trouble is reported again.
  await writeFile(file, '{')
  now += 1_000
  await assert.rejects(async () => keys.callerOf(secret), { code: 'keys-unreadable' })
  assert.equal(reports.length, 2)
})

test('no flipped bit gives a key other rights', async (t) => {
  const file = await folder(t)
  const expires = new Date('2031-01-01')
  const { secret } = await createKey(file, { ...wanted, permissions: ['submit:a', 'read'], expires })
  const good = await readFile(file)
  const accepted = async () => keysOf(file, { now: () => Date.now() }, () => {}).callerOf(secret)
  const before = await accepted()
  for (let byte = 0; byte < good.length; byte++) {
    const bad = Buffer.from(good)
    bad[byte]! ^= 1 << (byte & 7)
    await writeFile(file, bad)
    const found = await accepted().catch(({ code }) => code)
    assert.ok(found === 'keys-unreadable' || isDeepStrictEqual(found, before), `byte ${byte}: ${found}`)
  }
})

test('a file from before checksums is read, and has one from its next change on', async (t) => {
  const file = await folder(t)
  const { secret } = await createKey(file, wanted)
  const { keys } = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ version: 1, keys }))
  assert.ok(await keysOf(file, systemClock, () => {}).callerOf(secret))
  await createKey(file, wanted)
  assert.equal(JSON.parse(await readFile(file, 'utf8')).version, 2)
  assert.ok(await keysOf(file, systemClock, () => {}).callerOf(secret))
})

test('keys made at the same time are all stored, or refused with an error', async (t) => {
  const file = await folder(t)
  const made = await Promise.allSettled(
    Array.from({ length: 8 }, (_, i) => createKey(file, { ...wanted, name: `k${i}` })),
  )
  const done = made.flatMap((each) => (each.status === 'fulfilled' ? [each.value.key.id] : []))
  for (const each of made) if (each.status === 'rejected') assert.equal(each.reason.code, 'keys-busy')
  assert.deepEqual((await listKeys(file)).map(({ id }) => id).sort(), done.sort())
  assert.ok(done.length > 0)
})

test('a change abandoned by a dead process blocks others only briefly', async (t) => {
  const file = await folder(t)
  await writeFile(`${file}.unfinished`, '')
  await assert.rejects(createKey(file, wanted), { code: 'keys-busy', advice: 'retry' })
  const past = new Date(Date.now() - 11_000)
  await utimes(`${file}.unfinished`, past, past)
  await createKey(file, wanted)
})

test('invalid options are refused', async (t) => {
  const file = await folder(t)
  for (const wrong of [
    { name: ' ' },
    { permissions: [] },
    { permissions: ['write'] },
    { permissions: ['submit:'] },
    { principal: 'x'.repeat(256) },
    { expires: new Date(Number.NaN) },
  ]) {
    await assert.rejects(createKey(file, { ...wanted, ...wrong }), { code: 'key-options-invalid' })
  }
  await createKey(file, { ...wanted, permissions: ['submit:place-order', 'read', 'operate', 'admin'] })
})

test('a file that others may access is reported, once for each change', async (t) => {
  const file = await folder(t)
  let now = Date.now()
  const reports: Report[] = []
  const keys = keysOf(file, { now: () => now }, (report) => reports.push(report))
  const { secret } = await createKey(file, wanted)
  await keys.callerOf(secret)
  assert.deepEqual(reports, [])
  await chmod(file, 0o644)
  await utimes(file, 1, 1)
  for (let i = 0; i < 3; i++) {
    now += 1_000
    assert.equal((await keys.callerOf(secret))?.principal, 'shop-1')
  }
  assert.deepEqual(
    reports.map(({ level, code }) => [level, code]),
    [['warning', 'keys-open-to-others']],
  )
})
