import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { type SignedHead, signHead } from '../../src/audit/head.ts'
import { HeadCheck } from '../../src/audit/head-check.ts'
import { Frontier } from '../../src/audit/tree.ts'
import { type Flaw, flawOf, verifyPartition } from '../../src/audit/verify.ts'
import type { Disk } from '../../src/log/file-log/disk.ts'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { snapshotLog } from '../../src/log/file-log/snapshot.ts'
import { encodeRequest } from '../../src/log/record.ts'
import { diskWith, filesOf, newDisk } from './disk-files.ts'

// Every byte of a cleanly closed log is changed, one at a time, and `verify` must find each and name its
// position. The files are in memory, since there are thousands of cases.

const logId = '00112233445566778899aabbccddeeff'
const { privateKey, publicKey } = generateKeyPairSync('ed25519')

interface Written {
  readonly files: ReadonlyMap<string, Buffer>
  /** A head after every append. */
  readonly heads: readonly SignedHead[]
}

/** Writes a log of two partitions and several segments; `text` makes its inputs. */
async function written(text: (n: number) => string): Promise<Written> {
  const disk = newDisk()
  const log = await openFileLog({
    directory: '/data',
    partitions: 2,
    segmentBytes: 700,
    sealAfterMs: 60_000,
    newLogId: logId,
    report: () => {},
    disk,
  })
  const trees = [new Frontier(), new Frontier()]
  const heads: SignedHead[] = []
  for (let n = 0; n < 10; n++) {
    const records = [0, 1].map((i) => encodeRequest(`x${n}-${i}\0`, 'note', text(n), undefined, 1))
    await log.append(n % 2, records)
    for (const record of records) trees[n % 2]!.append(record)
    const partitions = trees.map((tree) => ({ size: tree.size, root: tree.root().toString('hex') }))
    heads.push(signHead(privateKey, { logId, time: n, partitions }))
  }
  await log.close()
  return { files: await filesOf(disk, '/data/log'), heads }
}

async function verified(disk: Disk, heads: readonly SignedHead[]): Promise<Flaw[]> {
  const check = new HeadCheck(logId, [publicKey])
  for (const head of heads) assert.equal(check.add(head, 'heads'), undefined)
  const flaws: Flaw[] = []
  try {
    const snapshot = (await snapshotLog('/data', disk))!
    for (const each of snapshot.partitions) {
      flaws.push(...(await verifyPartition(each, { heads: check, inUse: false, disk })).flaws)
    }
  } catch (error) {
    flaws.push(flawOf(error))
  }
  return [...flaws, ...check.flaws.map((flaw) => ({ code: 'head-mismatch', ...flaw }))]
}

const plain = (n: number) => JSON.stringify({ n, text: 'x'.repeat(n * 5) })

test('every changed byte of a closed log is found, with its file', async () => {
  const { files, heads } = await written(plain)
  assert.ok(files.size > 6, 'the log has too few segments')
  const disk = await diskWith(files)
  const newest = heads.slice(-1)
  assert.deepEqual(await verified(disk, heads), [])
  let cases = 0
  for (const [path, bytes] of files) {
    // A segment that was created ahead of need is not part of the log yet.
    if (path.endsWith('spare')) continue
    const file = await disk.open(path, 'write')
    for (const [at, byte] of bytes.entries()) {
      await file.write(Buffer.of(byte ^ (1 << (at % 8))), at)
      const flaws = await verified(disk, newest)
      await file.write(Buffer.of(byte), at)
      const named = flaws.find((flaw) => flaw.file === path)
      assert.ok(named, `byte ${at} of ${path}: ${JSON.stringify(flaws)}`)
      assert.ok(named.byte! <= at, `byte ${at} of ${path} is reported as damage from byte ${named.byte} on`)
      cases++
    }
    await file.close()
  }
  assert.ok(cases > 4_000)
})

test('a log that its owner rewrote with a valid chain fails against an older head', async () => {
  const { heads } = await written(plain)
  const rewritten = await written((n) => (n === 6 ? JSON.stringify({ n, text: 'other' }) : plain(n)))
  assert.deepEqual(await verified(await diskWith(rewritten.files), rewritten.heads), [])
  const flaws = await verified(await diskWith(rewritten.files), [heads.at(-1)!])
  assert.deepEqual(
    flaws.map(({ code, partition, from, to }) => [code, partition, from, to]),
    [['head-mismatch', 0, 0, 10]],
  )
  // With more heads the position is more exact.
  assert.deepEqual(
    (await verified(await diskWith(rewritten.files), heads)).map(({ code, partition, from, to }) => [
      code,
      partition,
      from,
      to,
    ]),
    [['head-mismatch', 0, 6, 8]],
  )
})

test('a log that lacks signed records fails', async () => {
  const { files, heads } = await written(plain)
  const roots = heads.at(-1)!.partitions
  const longer = signHead(privateKey, {
    logId,
    time: 11,
    partitions: [roots[0]!, { size: roots[1]!.size + 3, root: roots[1]!.root }],
  })
  const flaws = await verified(await diskWith(files), [...heads, longer])
  assert.deepEqual(
    flaws.map(({ code, partition, from, to }) => [code, partition, from, to]),
    [['head-mismatch', 1, 10, 13]],
  )
})

test('heads of another log or another key are reported', () => {
  const check = new HeadCheck(logId, [publicKey])
  const head = { logId, time: 1, partitions: [] }
  assert.match(check.add(signHead(privateKey, { ...head, logId: 'f'.repeat(32) }), 'there')!, /is of log f+;/)
  const other = generateKeyPairSync('ed25519').privateKey
  assert.match(check.add(signHead(other, head), 'there')!, /not signed with the key/)
  assert.equal(check.add(signHead(privateKey, head), 'there'), undefined)
})
