import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { appendFile, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import type { Report } from '../report.ts'
import { Auditor } from './auditor.ts'
import { checkConsistency } from './consistency.ts'
import { isSignedBy, parseHead, type SignedHead, signHead } from './head.ts'
import { readHeads } from './head-file.ts'
import { isConsistent } from './proof.ts'
import { checkReceipt } from './receipt.ts'
import { publicKeysIn, readPublicKey } from './signing-key.ts'
import { hashMemory, Tree } from './tree.ts'

// Worse than no proof is one that is not true: a head that does not cover what it says, or a receipt that
// checks although its record is another.

async function folderFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'hence-audit-'))
  t.after(() => rm(directory, { recursive: true }))
  return join(directory, 'audit')
}

function opened(log: Log, folder: string | undefined, reports: Report[] = []) {
  return Auditor.open({ log, folder, clock: systemClock, report: (each) => void reports.push(each) })
}

const append = (log: Log, partition: number, ...texts: string[]) =>
  log.append(
    partition,
    texts.map((text) => Buffer.from(text)),
  )

function rootOf(...texts: string[]): string {
  const tree = new Tree(hashMemory())
  for (const text of texts) tree.append(Buffer.from(text))
  return tree.root().toString('hex')
}

async function headsOf(folder: string): Promise<SignedHead[]> {
  const heads = []
  for await (const head of readHeads(join(folder, 'heads.ndjson'))) heads.push(head)
  return heads
}

const withCode = (code: string) => (error: unknown) => error instanceof HenceError && error.code === code

test('a head covers all partitions, is signed, stored, and published', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog({ partitions: 2 })
  const published: SignedHead[] = []
  const auditor = await Auditor.open({
    log,
    folder,
    clock: { now: () => 7 },
    report: () => {},
    publish: [(head) => void published.push(head)],
  })
  await append(log, 0, 'a', 'b')
  await append(log, 1, 'c')
  await auditor.receipt(1, 0)
  await auditor.close()
  const heads = await headsOf(folder)
  assert.deepEqual(heads, published)
  assert.deepEqual(heads.at(-1), auditor.head)
  const { signature: _, ...head } = heads.at(-1)!
  assert.deepEqual(head, {
    format: 'hence-head',
    version: 1,
    logId: log.id,
    time: 7,
    partitions: [
      { size: 2, root: rootOf('a', 'b') },
      { size: 1, root: rootOf('c') },
    ],
  })
  const key = readPublicKey(await readFile(join(folder, 'public-key.pem'), 'utf8'))
  assert.ok(isSignedBy(key, heads[0]!))
  assert.ok(!isSignedBy(key, { ...heads[0]!, time: 8 }))
  assert.equal((await stat(join(folder, 'key.pem'))).mode & 0o777, 0o600)
})

test('after a restart it continues with the same key, and later heads are consistent with earlier ones', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog()
  const texts: string[] = []
  for (let run = 0; run < 5; run++) {
    const auditor = await opened(log, folder)
    const more = Array.from({ length: 3 + run }, (_, i) => `run ${run}, record ${i}`)
    await append(log, 0, ...more)
    texts.push(...more)
    await auditor.close()
    if (run === 1) await rm(join(folder, 'tree'), { recursive: true })
    // As a crash leaves it: hashes that no head covers, and a head that is cut short.
    if (run === 2) await appendFile(join(folder, 'tree/p0000'), 'x'.repeat(77))
    if (run === 3) await appendFile(join(folder, 'heads.ndjson'), '{"format":"hence-he')
  }
  const heads = await headsOf(folder)
  const key = readPublicKey(await readFile(join(folder, 'public-key.pem'), 'utf8'))
  assert.equal(heads.length, 5)
  const tree = new Tree(hashMemory())
  for (const text of texts) tree.append(Buffer.from(text))
  const views = heads.map(({ partitions: [only] }) => ({
    size: only!.size,
    root: Buffer.from(only!.root, 'hex'),
  }))
  assert.equal(views.at(-1)!.size, texts.length)
  for (const [i, later] of views.entries()) {
    assert.ok(isSignedBy(key, heads[i]!))
    assert.equal(later.root.toString('hex'), rootOf(...texts.slice(0, later.size)))
    for (const earlier of views.slice(0, i)) {
      assert.ok(isConsistent(earlier, later, tree.consistency(earlier.size, later.size)))
    }
  }
})

test('the public key alone checks every receipt, and any change to one shows', async (t) => {
  const log = memoryLog({ partitions: 2 })
  const auditor = await opened(log, await folderFor(t))
  t.after(() => auditor.close())
  for (let i = 0; i < 9; i++) await append(log, i % 2, `record ${i}`)
  for (const [partition, size] of [5, 4].entries()) {
    for (let offset = 0; offset < size; offset++) {
      const receipt = JSON.parse(JSON.stringify(await auditor.receipt(partition, offset)))
      const proven = checkReceipt(auditor.publicKey, receipt)
      assert.equal(proven.record.toString(), `record ${offset * 2 + partition}`)
      assert.deepEqual([proven.logId, proven.partition, proven.offset], [log.id, partition, offset])
      const other = '0'.repeat(64)
      const changed = [
        { record: Buffer.from('another').toString('base64') },
        { offset: offset + 1 },
        { offset: -1 },
        { partition: 1 - partition },
        { partition: 9 },
        { path: receipt.path.slice(1) },
        { path: [...receipt.path, other] },
        { path: [other, ...receipt.path.slice(1)] },
        { head: { ...receipt.head, time: 0 } },
        { head: { ...receipt.head, logId: '0'.repeat(32) } },
        { format: 'hence-head' },
      ]
      for (const change of changed) {
        assert.throws(
          () => checkReceipt(auditor.publicKey, { ...receipt, ...change }),
          withCode('receipt-invalid'),
          JSON.stringify(change),
        )
      }
      const { publicKey } = generateKeyPairSync('ed25519')
      assert.throws(() => checkReceipt(publicKey, receipt), withCode('receipt-invalid'))
    }
  }
  for (const nothing of [null, undefined, 7, 'x', {}]) {
    assert.throws(() => checkReceipt(auditor.publicKey, nothing), withCode('receipt-invalid'))
  }
})

test('a log that differs from its signed head ends the signing, with an alarm', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog()
  const auditor = await opened(log, folder)
  await append(log, 0, 'a', 'b', 'c')
  await auditor.close()
  for (const texts of [
    ['a', 'B', 'c', 'd'],
    ['a', 'b'],
  ]) {
    const rewritten = memoryLog({ id: log.id })
    await append(rewritten, 0, ...texts)
    const reports: Report[] = []
    // The hashes are gone too, as whoever rewrites a log would see to.
    await rm(join(folder, 'tree'), { recursive: true })
    const after = await opened(rewritten, folder, reports)
    await assert.rejects(after.receipt(0, 3), withCode('head-mismatch'))
    await after.close()
    assert.deepEqual(
      reports.map(({ level, code }) => [level, code]),
      [['alarm', 'head-mismatch']],
    )
    assert.equal((await headsOf(folder)).length, 1)
  }
})

test('damaged hashes are derived again from the log', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog()
  const first = await opened(log, folder)
  await append(log, 0, ...Array.from({ length: 100 }, (_, i) => `${i}`))
  await first.close()
  const path = join(folder, 'tree/p0000')
  await truncate(path, 3000)
  const second = await opened(log, folder)
  checkReceipt(second.publicKey, await second.receipt(0, 99))
  await second.close()
  await writeFile(path, Buffer.alloc((await stat(path)).size))
  const third = await opened(log, folder)
  await append(log, 0, 'more')
  checkReceipt(third.publicKey, await third.receipt(0, 100))
  await third.close()
})

test('hashes that are cut under an auditor are derived again, and the signing goes on', async (t) => {
  for (const left of [0, 20]) {
    // An odd number: the next record reads the hash before it.
    for (const count of [1, 5]) {
      const folder = await folderFor(t)
      const log = memoryLog()
      const reports: Report[] = []
      const auditor = await opened(log, folder, reports)
      await append(log, 0, ...Array.from({ length: count }, (_, i) => `${i}`))
      const head = await auditor.newest()
      await truncate(join(folder, 'tree/p0000'), left)
      await append(log, 0, 'more')
      for (const i of [0, count]) checkReceipt(auditor.publicKey, await auditor.receipt(0, i))
      checkConsistency(auditor.publicKey, head, await auditor.consistency([count]))
      await auditor.close()
      const codes = reports.map(({ level, code }) => `${level} ${code}`)
      assert.deepEqual([...new Set(codes)], ['warning state-unreadable'])
    }
  }
})

test('a damaged hash blames no log, proves nothing and is signed by nobody', async (t) => {
  const count = 400
  for (const how of ['before an opening', 'under an auditor'] as const) {
    for (const hash of [0, 13, 2 * count - 40]) {
      const folder = await folderFor(t)
      const log = memoryLog()
      let auditor = await opened(log, folder)
      await append(log, 0, ...Array.from({ length: count }, (_, i) => `${i}`))
      const head = await auditor.newest()
      const reports: Report[] = []
      if (how === 'before an opening') await auditor.close()
      const path = join(folder, 'tree/p0000')
      const bytes = await readFile(path)
      bytes[32 * hash + 5]! ^= 1
      await writeFile(path, bytes)
      if (how === 'before an opening') auditor = await opened(log, folder, reports)
      await append(log, 0, 'more')
      for (const i of [0, 1, 6, 7, 8, count - 20, count])
        checkReceipt(auditor.publicKey, await auditor.receipt(0, i))
      checkConsistency(auditor.publicKey, head, await auditor.consistency([count]))
      await auditor.close()
      assert.deepEqual(
        reports.filter(({ level }) => level === 'alarm'),
        [],
      )
    }
  }
})

test('a line that is no head is refused', () => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const head = signHead(privateKey, { logId: '0'.repeat(32), time: 1, partitions: [] })
  for (const line of ['', 'x', 'null', '[]', '{}', JSON.stringify({ format: 'hence-head', version: 2 })]) {
    assert.throws(() => parseHead(line), withCode('head-invalid'), line)
  }
  assert.throws(() => parseHead(JSON.stringify({ ...head, partitions: [{}] })), withCode('head-invalid'))
})

test('an older log that was put back gets no heads on another branch', async (t) => {
  for (const [before, later] of [
    [
      ['a', 'b'],
      ['x', 'y', 'z'],
    ],
    [['a', 'b', 'C'], ['d']],
    [[], ['a', 'b', 'c']],
  ] as const) {
    const folder = await folderFor(t)
    const log = memoryLog()
    const auditor = await opened(log, folder)
    await append(log, 0, 'a', 'b', 'c')
    await auditor.close()
    const [signed] = await headsOf(folder)
    // The hashes are still there: the folder `audit` is not that of the older log.
    const older = memoryLog({ id: before.length === 0 ? 'f'.repeat(32) : log.id })
    if (before.length > 0) await append(older, 0, ...before)
    const reports: Report[] = []
    const after = await opened(older, folder, reports)
    await append(older, 0, ...later)
    await assert.rejects(after.receipt(0, 3), withCode('head-mismatch'))
    await after.close()
    const alarms = reports.filter(({ level }) => level === 'alarm')
    assert.deepEqual(
      alarms.map(({ code }) => code),
      ['head-mismatch'],
    )
    assert.deepEqual(await headsOf(folder), [signed])
  }
})

test('without its key nothing is signed, until a new one is asked for; the old public key stays', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog()
  const first = await opened(log, folder)
  await append(log, 0, 'a')
  await first.close()
  const publicKey = await readFile(join(folder, 'public-key.pem'), 'utf8')
  const privateKey = await readFile(join(folder, 'key.pem'), 'utf8')

  await rm(join(folder, 'key.pem'))
  await assert.rejects(opened(log, folder), withCode('signing-key-missing'))
  await rm(join(folder, 'public-key.pem'))
  await assert.rejects(opened(log, folder), withCode('signing-key-missing'))
  await writeFile(join(folder, 'public-key.pem'), publicKey)
  const { privateKey: other } = generateKeyPairSync('ed25519')
  await writeFile(join(folder, 'key.pem'), other.export({ type: 'pkcs8', format: 'pem' }))
  await assert.rejects(opened(log, folder), withCode('signing-key-mismatch'))
  await writeFile(join(folder, 'key.pem'), 'no key')
  await assert.rejects(opened(log, folder), {
    code: 'signing-key-unusable',
    message: /cannot be used: it is not an Ed25519 key in PEM\. Put it back/,
  })
  assert.equal(await readFile(join(folder, 'public-key.pem'), 'utf8'), publicKey)

  await rm(join(folder, 'key.pem'))
  const options = { log, folder, clock: systemClock, report: () => {}, newKey: true }
  for (const text of ['b', 'c']) {
    // The option can stay: only the first start makes a key.
    const auditor = await Auditor.open(options)
    await append(log, 0, text)
    await auditor.close()
  }
  const keys = await publicKeysIn(folder)
  assert.equal(keys.length, 2)
  const now = readPublicKey(await readFile(join(folder, 'public-key.pem'), 'utf8'))
  const [old, ...later] = await headsOf(folder)
  assert.ok(isSignedBy(readPublicKey(publicKey), old!))
  assert.equal(later.length, 2)
  assert.ok(later.every((head) => isSignedBy(now, head)))
  assert.ok([old!, ...later].every((head) => keys.some((key) => isSignedBy(key, head))))

  // Only the public half is missing: it is made again.
  await writeFile(join(folder, 'key.pem'), privateKey)
  await rm(join(folder, 'public-key.pem'))
  await (await opened(log, folder)).close()
  assert.equal(await readFile(join(folder, 'public-key.pem'), 'utf8'), publicKey)
})

test('a folder that is gone as a whole is no first start', async (t) => {
  const folder = await folderFor(t)
  const log = memoryLog()
  await append(log, 0, 'a')
  await (await opened(log, folder)).close()
  const publicKey = await readFile(join(folder, 'public-key.pem'), 'utf8')
  const heads = await headsOf(folder)
  await rm(folder, { recursive: true })
  for (const _ of ['first', 'again'])
    await assert.rejects(opened(log, folder), withCode('signing-key-missing'))
  const options = { log, folder, clock: systemClock, report: () => {}, newKey: true }
  await (await Auditor.open(options)).close()
  // Heads that others keep can still be checked.
  const keys = await publicKeysIn(folder)
  assert.equal(keys.length, 2)
  assert.ok(keys.some((key) => isSignedBy(key, heads[0]!)))
  assert.notEqual(await readFile(join(folder, 'public-key.pem'), 'utf8'), publicKey)
  // Now the new key is vouched for.
  await rm(folder, { recursive: true })
  await assert.rejects(opened(log, folder), withCode('signing-key-missing'))
})

test('a directory from before that copy of the key gets it at its next start', async (t) => {
  const folder = await folderFor(t)
  const signer = join(folder, '../signer.pem')
  await (await opened(memoryLog(), folder)).close()
  const pem = await readFile(signer, 'utf8')
  assert.equal(pem, await readFile(join(folder, 'public-key.pem'), 'utf8'))
  await rm(signer)
  await (await opened(memoryLog(), folder)).close()
  assert.equal(await readFile(signer, 'utf8'), pem)
  await writeFile(signer, pem.slice(10))
  const named = (error: HenceError) =>
    error.code === 'signing-key-unusable' && error.message.includes('signer.pem')
  await assert.rejects(opened(memoryLog(), folder), named)
  // It is not the key, and no other key is to be made.
  await rm(signer)
  await mkdir(signer)
  const asFile = (error: HenceError) => error.code === 'file-unusable' && error.message.includes(signer)
  await assert.rejects(opened(memoryLog(), folder), asFile)
})

test('a damaged public key is named, and made again once it is removed', async (t) => {
  const folder = await folderFor(t)
  const path = join(folder, 'public-key.pem')
  await (await opened(memoryLog(), folder)).close()
  const pem = await readFile(path, 'utf8')
  await writeFile(path, pem.replace('K', 'k'))
  const named = (error: HenceError) => error.code === 'signing-key-unusable' && error.message.startsWith(path)
  await assert.rejects(opened(memoryLog(), folder), named)
  await rm(path)
  await (await opened(memoryLog(), folder)).close()
  assert.equal(await readFile(path, 'utf8'), pem)
})

test('heads that are gone, cut or emptied are reported once, and signing goes on after the newest', async (t) => {
  for (const harm of ['gone', 'cut', 'emptied', 'all gone'] as const) {
    const folder = await folderFor(t)
    const path = join(folder, 'heads.ndjson')
    const log = memoryLog()
    const first = await opened(log, folder)
    await append(log, 0, 'a')
    await first.receipt(0, 0)
    await append(log, 0, 'b')
    await first.close()
    const [one, newest] = await headsOf(folder)
    if (harm === 'gone' || harm === 'all gone') await rm(path)
    if (harm === 'all gone') await rm(join(folder, 'newest-head.json'))
    if (harm === 'cut') await writeFile(path, `${JSON.stringify(one)}\n`)
    if (harm === 'emptied') await writeFile(path, '')
    const reports: Report[] = []
    const second = await opened(log, folder, reports)
    await append(log, 0, 'c')
    await second.close()
    assert.deepEqual(
      reports.map(({ level, code }) => [level, code]),
      [['alarm', 'heads-lost']],
      harm,
    )
    const heads = await headsOf(folder)
    const sizes = heads.map(({ partitions: [only] }) => only!.size)
    assert.deepEqual(sizes, { gone: [2, 3], cut: [1, 2, 3], emptied: [2, 3], 'all gone': [3] }[harm])
    if (harm !== 'all gone') assert.deepEqual(heads.at(-2), newest)
    reports.length = 0
    await (await opened(log, folder, reports)).close()
    assert.deepEqual(reports, [])
  }
})

for (const [harm, hurt] of Object.entries({
  removed: (folder: string) => rm(folder, { recursive: true }),
  emptied: (folder: string) => truncate(join(folder, 'heads.ndjson')),
}))
  test(`heads that are ${harm} under an auditor end the signing, with an alarm`, async (t) => {
    const folder = await folderFor(t)
    const log = memoryLog()
    const reports: Report[] = []
    const auditor = await opened(log, folder, reports)
    await append(log, 0, 'a')
    await auditor.receipt(0, 0)
    await hurt(folder)
    await append(log, 0, 'b')
    const held = (error: HenceError) =>
      error.code === 'audit-failed' && /heads.ndjson was rem/.test(error.message)
    await assert.rejects(auditor.receipt(0, 1), held)
    await auditor.close()
    assert.deepEqual(
      reports.map(({ level, code }) => [level, code]),
      [['alarm', 'audit-failed']],
    )
  })
